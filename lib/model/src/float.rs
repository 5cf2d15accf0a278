//! Numbers as Go prints them.

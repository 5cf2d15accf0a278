//! What `periplus bucket` is told.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use periplus_bucket::blocks::marks::MarkKind;
use periplus_bucket::blocks::scan::Found;
use periplus_bucket::key::parse_ulid;
use ulid::Ulid;

use super::output::Format;

/// Which bucket.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Source {
    /// The bucket: s3://BUCKET/PREFIX, gs://, az://, file:///DIR
    #[arg(long, value_name = "URL", conflicts_with = "objstore_config_file")]
    pub(super) bucket: Option<String>,
    /// Thanos's objstore YAML instead of --bucket
    #[arg(long, value_name = "FILE")]
    pub(super) objstore_config_file: Option<PathBuf>,
}

/// Which blocks.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct Filter {
    /// Only these blocks
    #[arg(value_name = "BLOCK", value_parser = block)]
    blocks: Vec<Ulid>,
    /// Only blocks with this external label; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
}

impl Filter {
    /// Whether a block is meant.
    pub(super) fn takes(&self, found: &Found) -> bool {
        let is_named = self.blocks.is_empty() || self.blocks.contains(&found.id);
        let has_labels = self.labels.iter().all(|(name, value)| {
            found.meta.as_ref().is_ok_and(|meta| meta.thanos.labels.get(name) == Some(value))
        });
        is_named && has_labels
    }

    /// The blocks that are named.
    pub(super) fn blocks(&self) -> &[Ulid] {
        &self.blocks
    }

    /// Whether a stream with these external labels is meant; none where blocks are named.
    pub(super) fn takes_labels(
        &self,
        external: &std::collections::BTreeMap<String, String>,
    ) -> bool {
        self.blocks.is_empty() && self.labels.iter().all(|(n, v)| external.get(n) == Some(v))
    }
}

#[derive(Subcommand, Debug)]
pub(super) enum Action {
    /// List blocks
    Ls {
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        filter: Filter,
        /// How it is printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Sum blocks and history up by stream: times, gaps, sizes, levels; and what was set aside and why
    Inspect {
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        filter: Filter,
        /// How it is printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Hold blocks against their meta.json and each other, and the history against its catalog; fails
    /// where there are problems
    Verify {
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        filter: Filter,
        /// Read every file that has a hash in meta.json and compare; of the history every footer
        #[arg(long)]
        hashes: bool,
        /// Read every block whole: all checksums of its index and chunks, every series and every sample
        #[arg(long)]
        chunks: bool,
        /// How it is printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Mark blocks
    Mark {
        #[command(flatten)]
        source: Source,
        /// What the mark says
        #[arg(value_enum)]
        kind: MarkName,
        /// The blocks
        #[arg(value_name = "BLOCK", value_parser = block, required = true)]
        blocks: Vec<Ulid>,
        /// Why, for people
        #[arg(long, default_value = "by hand")]
        details: String,
        /// Take the mark away instead
        #[arg(long)]
        remove: bool,
    },
    /// Delete blocks that were marked for it, and uploads that were given up
    Cleanup {
        #[command(flatten)]
        source: Source,
        /// How long a block stays after it was marked
        #[arg(long, value_name = "DURATION", default_value = "48h", value_parser = humantime::parse_duration)]
        delete_delay: Duration,
        /// How long a block without meta.json stays after its last file; 0s: for ever
        #[arg(long, value_name = "DURATION", default_value = "48h", value_parser = humantime::parse_duration)]
        partial_delay: Duration,
        /// Only say what would be deleted
        #[arg(long)]
        dry_run: bool,
        /// How it is printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Make the history's catalog anew from its files, whatever catalog there was
    ///
    /// Stop the compactors meanwhile: what they commit while this runs would be left out.
    RebuildCatalog {
        #[command(flatten)]
        source: Source,
        /// Only say what would be in it
        #[arg(long)]
        dry_run: bool,
        /// How it is printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Delete series, or a time of them, from the history; the compactor does it
    DeleteSeries(super::delete_series::DeleteSeries),
    /// Copy blocks to another bucket or directory, and verify them there
    Cp {
        #[command(flatten)]
        source: Source,
        /// The bucket to copy to
        #[arg(long, value_name = "URL")]
        to: String,
        #[command(flatten)]
        filter: Filter,
        /// How it is printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

/// What a mark says.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum MarkName {
    /// Is to be deleted
    Deletion,
    /// Is not to be compacted
    NoCompact,
    /// Is not to be downsampled
    NoDownsample,
}

impl MarkName {
    pub(super) const fn kind(self) -> MarkKind {
        match self {
            Self::Deletion => MarkKind::Deletion,
            Self::NoCompact => MarkKind::NoCompact,
            Self::NoDownsample => MarkKind::NoDownsample,
        }
    }
}

fn block(text: &str) -> Result<Ulid, String> {
    parse_ulid(text).ok_or_else(|| {
        "a block's name has 26 characters, such as 01M7Z93MDS9J4WQZYN95AFEATR".to_owned()
    })
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

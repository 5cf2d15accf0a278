use super::*;
use crate::event::Event;

fn row(i: usize) -> Row {
    let event = Event {
        cluster: format!("c{}", i % 5),
        uid: format!("uid-{i}"),
        resource_version: u64::MAX - i as u64,
        namespace: format!("ns{}", i % 40),
        event_name: format!("web-{i}.17a"),
        kind: "Pod".into(),
        name: format!("web-{i}"),
        object_uid: format!("o{i}"),
        field_path: "spec.containers{app}".into(),
        reason: ["BackOff", "Failed", ""][i % 3].into(),
        type_: "Warning".into(),
        message: format!("line {i}\n\u{1f600} <b>"),
        truncated: i.is_multiple_of(2),
        action: "Binding".into(),
        reporter: "kubelet".into(),
        reporter_instance: format!("node-{}", i % 10),
        count: u32::MAX - i as u32,
        first_us: i as i64,
        last_us: 1_000 + ((i * 7919) % 20_000) as i64,
        received_us: 5,
        owner: if i.is_multiple_of(2) { "Deployment/web".into() } else { String::new() },
        labels: if i.is_multiple_of(3) {
            [("app".to_owned(), "\"x\"".to_owned())].into()
        } else {
            Default::default()
        },
    };
    Row { id: i as i64 * 10, event }
}

#[test]
fn rows_come_back_and_groups_say_where_they_are() {
    let rows: Vec<Row> = (0..GROUP_ROWS + 2000).map(row).collect();
    let written = write(3, rows.clone()).unwrap();
    assert_eq!(written.groups.len(), 2);
    let index = index_bytes(&written.groups);
    assert_eq!(read_index(&index).unwrap(), written.groups);
    let file = &written.bytes;
    let tail = file.len() - 8;
    let length = Metadata::length(&file[tail..]).unwrap() as usize;
    let metadata = Metadata::parse(&file[tail - length..tail], file.len() as u64).unwrap();
    assert_eq!(metadata.groups(), 2);
    let mut back = Vec::new();
    for (i, g) in written.groups.iter().enumerate() {
        let bytes = file.slice(g.start as usize..(g.start + g.length) as usize);
        let reader = GroupReader::new(&metadata, i, g, bytes);
        let all = reader.rows(None).unwrap();
        let some = [0, 5, 6, 7, 1999];
        let picked: Vec<Row> = some.iter().map(|r| all[*r as usize].clone()).collect();
        assert_eq!(reader.rows(Some(&some)).unwrap(), picked);
        let names: Vec<String> = picked.iter().map(|r| r.event.name.clone()).collect();
        assert_eq!(reader.texts("name", &some).unwrap(), names);
        let columns = reader.columns().unwrap();
        assert_eq!(columns.ids[7], all[7].id);
        assert_eq!(columns.fields[1].get(7), all[7].event.namespace);
        assert_eq!((columns.last[7], columns.count[7]), (all[7].event.last_us, all[7].event.count));
        let in_order = all.windows(2).all(|w| {
            (&w[0].event.cluster, w[0].event.last_us) <= (&w[1].event.cluster, w[1].event.last_us)
        });
        assert!(in_order);
        back.extend(all);
    }
    back.sort_by_key(|r| r.id);
    assert_eq!(back, rows);
}

#[test]
fn damaged_bytes_are_errors() {
    let written = write(3, (0..50).map(row).collect()).unwrap();
    let mut index = index_bytes(&written.groups);
    for at in 0..index.len() {
        index[at] ^= 0x10;
        assert!(read_index(&index).is_err());
        index[at] ^= 0x10;
        assert!(at > 2000 || read_index(&index[..at]).is_err());
    }
    let file = &written.bytes;
    let tail = file.len() - 8;
    let length = Metadata::length(&file[tail..]).unwrap() as usize;
    let footer = file[tail - length..tail].to_vec();
    let good = Metadata::parse(&footer, file.len() as u64).unwrap();
    for at in (0..footer.len()).step_by(3) {
        let mut broken = footer.clone();
        broken[at] ^= 0x55;
        // An error or not, but no panic.
        let _ = Metadata::parse(&broken, file.len() as u64);
    }
    let group = &written.groups[0];
    for at in (0..group.length as usize).step_by(7) {
        let mut bytes = file[group.start as usize..(group.start + group.length) as usize].to_vec();
        bytes[at] ^= 0x55;
        let _ = GroupReader::new(&good, 0, group, Bytes::from(bytes)).rows(None);
    }
    let short = GroupReader::new(&good, 0, group, Bytes::new());
    assert!(short.rows(None).is_err());
}

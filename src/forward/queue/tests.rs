//! Tests of the queue: what was kept is there, whatever happens.

use tempfile::TempDir;

use super::*;

fn message(packet: u16, topic: &str, payload: &str) -> Incoming {
    Incoming { packet, again: false, topic: topic.into(), payload: Bytes::copy_from_slice(payload.as_bytes()) }
}

fn numbered(from: u64, to: u64) -> Vec<Incoming> {
    (from..to).map(|number| message(0, "a", &format!("{number:0200}"))).collect()
}

fn payloads(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| String::from_utf8(entry.payload.to_vec()).unwrap()).collect()
}

fn done(queue: &mut Queue, entries: &[Entry]) {
    queue.done(&entries.iter().map(|entry| entry.number).collect::<Vec<_>>(), None);
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "log"));
    files.sort();
    files
}

#[test]
fn messages_come_out_in_their_order_and_are_gone_when_they_are_done() {
    let dir = TempDir::new().unwrap();
    let mut queue = Queue::open(dir.path(), 1 << 20).unwrap();
    assert_eq!(queue.append(&[message(1, "a", "one"), message(2, "b", "two")]).unwrap(), [Kept::Written; 2]);
    // A disk that takes nothing: none is kept, and the next one is.
    let good = queue.end.replace(File::open(&files(dir.path())[0]).unwrap());
    assert!(queue.append(&[message(9, "a", "lost")]).is_err());
    queue.end = good;
    let entries = queue.read(10).unwrap();
    assert_eq!(payloads(&entries), ["one", "two"]);
    assert!(queue.read(10).unwrap().is_empty(), "each is read once");
    queue.append(&[message(3, "a", "three")]).unwrap();
    assert_eq!(payloads(&queue.read(10).unwrap()), ["three"]);
    queue.done(&[entries[1].number], None);
    assert_eq!(queue.waiting(), 2);
    // Who comes after a crash gets all before the first that is not done, under the same ids.
    let mut again = Queue::open(dir.path(), 1 << 20).unwrap();
    let read = again.read(10).unwrap();
    assert_eq!((payloads(&read), &read[0].id), (vec!["one".into(), "two".into(), "three".into()], &entries[0].id));
    done(&mut again, &read);
    assert_eq!((again.waiting(), again.oldest()), (0, None));
    let mut last = Queue::open(dir.path(), 1 << 20).unwrap();
    assert!(last.read(10).unwrap().is_empty() && last.waiting() == 0);
    last.append(&[message(4, "a", "four")]).unwrap();
    let four = last.read(10).unwrap();
    assert!(four[0].number == 4 && read.iter().all(|entry| entry.id != four[0].id));
}

#[test]
fn a_queue_takes_no_more_than_it_may_and_gives_room_back() {
    let dir = TempDir::new().unwrap();
    let mut queue = Queue::open(dir.path(), 300 << 10).unwrap();
    let (mut sent, mut got) = (0, Vec::new());
    // Several times as much as has room, in turns.
    while sent < 8000 {
        let kept = queue.append(&numbered(sent, sent + 500)).unwrap();
        sent += kept.len() as u64;
        assert!(queue.bytes() <= 300 << 10, "{}", queue.bytes());
        if kept.len() < 500 {
            let entries = queue.read(700).unwrap();
            assert!(!entries.is_empty(), "full, and nothing in it");
            done(&mut queue, &entries);
            got.extend(payloads(&entries));
        }
    }
    loop {
        let entries = queue.read(999).unwrap();
        if entries.is_empty() {
            break;
        }
        done(&mut queue, &entries);
        got.extend(payloads(&entries));
    }
    assert_eq!(got, (0..sent).map(|number| format!("{number:0200}")).collect::<Vec<_>>());
    assert!(queue.bytes() < 128 << 10, "{}", queue.bytes());
    assert_eq!(queue.append(&[message(1, "a", &"x".repeat(400 << 10))]).unwrap(), [Kept::TooLong]);
    let just = message(1, "a", &"x".repeat((300 << 10) - 100));
    assert_eq!(queue.append(&[just]).unwrap(), [Kept::Written], "nothing waits: all of it is free");
}

#[test]
fn what_is_not_whole_at_the_end_is_dropped_and_nothing_before_it() {
    let dir = TempDir::new().unwrap();
    let mut queue = Queue::open(dir.path(), 1 << 20).unwrap();
    queue.append(&numbered(0, 3)).unwrap();
    let whole = fs::read(&files(dir.path())[0]).unwrap();
    for cut in [1, 50, 150] {
        fs::write(&files(dir.path())[0], &whole[..whole.len() - cut]).unwrap();
        let mut torn = Queue::open(dir.path(), 1 << 20).unwrap();
        assert_eq!(torn.waiting(), 2);
        torn.append(&numbered(7, 8)).unwrap();
        let entries = torn.read(10).unwrap();
        assert_eq!(entries.iter().map(|entry| entry.number).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(payloads(&entries)[2].ends_with("07"));
        fs::remove_file(&files(dir.path())[1]).unwrap();
    }
    fs::write(&files(dir.path())[0], &whole[..10]).unwrap();
    let mut none = Queue::open(dir.path(), 1 << 20).unwrap();
    assert!(none.read(10).unwrap().is_empty() && files(dir.path()).is_empty());
}

#[test]
fn a_file_that_is_damaged_in_the_middle_holds_up_nothing() {
    let dir = TempDir::new().unwrap();
    let mut queue = Queue::open(dir.path(), 1 << 30).unwrap();
    queue.most = 1 << 20;
    for round in 0..4 {
        queue.append(&numbered(round * 400, round * 400 + 400)).unwrap();
    }
    let all = files(dir.path());
    assert!(all.len() > 2, "{all:?}");
    let mut damaged = fs::read(&all[1]).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&all[1], damaged).unwrap();
    let mut queue = Queue::open(dir.path(), 1 << 20).unwrap();
    let entries = queue.read(usize::MAX).unwrap();
    assert!(entries.len() > 1000 && entries.len() < 1600, "{}", entries.len());
    assert_eq!(queue.waiting(), entries.len() as u64);
    done(&mut queue, &entries);
    assert_eq!((queue.waiting(), queue.first), (0, 1601));
    assert!(files(dir.path()).is_empty());
}

#[test]
fn a_message_that_the_broker_sends_again_is_kept_once() {
    let dir = TempDir::new().unwrap();
    let again = |packet, payload: &str| Incoming { again: true, ..message(packet, "a", payload) };
    let mut queue = Queue::open(dir.path(), 1 << 20).unwrap();
    queue.append(&[message(1, "a", "one"), message(2, "a", "two")]).unwrap();
    // Not acknowledged yet, here as after a crash.
    assert_eq!(queue.append(&[again(1, "one")]).unwrap(), [Kept::Again]);
    let mut queue = Queue::open(dir.path(), 1 << 20).unwrap();
    assert_eq!(queue.append(&[again(2, "two"), again(1, "other")]).unwrap(), [Kept::Again, Kept::Written]);
    // Acknowledged: the same number means another message, whatever it says.
    queue.acknowledged(queue.next());
    assert_eq!(queue.append(&[again(2, "two")]).unwrap(), [Kept::Written]);
    let mut queue = Queue::open(dir.path(), 1 << 20).unwrap();
    assert_eq!(queue.append(&[again(1, "other"), again(2, "two")]).unwrap(), [Kept::Written, Kept::Again]);
    queue.forgotten();
    assert_eq!(queue.append(&[again(2, "two")]).unwrap(), [Kept::Written]);
}

#[test]
fn what_the_broker_may_send_again_is_known_to_who_comes_after_a_crash() {
    let dir = TempDir::new().unwrap();
    let many: Vec<_> = (1..=200).map(|packet| message(packet, "a", &format!("{packet:0200}"))).collect();
    let mut queue = Queue::open(dir.path(), 1 << 20).unwrap();
    queue.append(&many).unwrap();
    let entries = queue.read(usize::MAX).unwrap();
    done(&mut queue, &entries);
    // All of it was delivered, and nobody knows whether the broker has heard of that.
    let mut next = Queue::open(dir.path(), 1 << 20).unwrap();
    assert!(next.waiting() == 0 && next.read(10).unwrap().is_empty());
    assert_eq!(next.append(&[Incoming { again: true, ..many[199].clone() }]).unwrap(), [Kept::Again]);
    next.acknowledged(next.next());
    assert!(files(dir.path()).is_empty(), "then it is of no use any more");
}

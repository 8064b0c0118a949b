//! Records on their way from a pen to a file.

use std::{fs, num::NonZeroU32, rc::Rc};

use super::*;
use crate::{limits::RECORDS_SPARE_MAX, testbed::eventually};

const EACH: NonZeroU32 = NonZeroU32::MIN;

#[test]
fn records_are_written_given_back_and_never_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let settings = Settings {
        to: Target::File(path.clone()),
        ..Settings::default()
    };
    let log = AccessLog::start(settings, 1).unwrap();
    let pen = Rc::new(log.pen(0).unwrap());
    let all = 3 * RECORDS_MAX as u64;
    for number in 0..all {
        let mut draft = pen.begin(EACH).unwrap();
        draft.note(|record| record.bytes_in = number);
    }
    eventually("all are written or dropped", || {
        let Counts { written, dropped } = log.counts();
        written + dropped == all
    });
    // Those that were given back are used again.
    let written = log.counts().written;
    drop(pen.begin(EACH));
    eventually("the next one is written", || {
        log.counts().written == written + 1
    });
    drop(pen);
    log.end();
    let lines = fs::read_to_string(&path).unwrap().lines().count() as u64;
    assert_eq!(lines, log.counts().written);
    let AccessLog(Some(open)) = &log else {
        panic!("it is open")
    };
    assert!(open.writer.is_finished());
    assert!(log.pen(0).is_none(), "nobody would read it");
}

#[test]
fn a_sink_that_hangs_costs_records_and_nothing_else() {
    // A desk without a writer.
    let (newcomers, come) = channel();
    let log = AccessLog(Some(Open {
        desk: Arc::new(Desk {
            dropped: [Dropped::default()].into(),
            ..Desk::default()
        }),
        newcomers,
        writer: Arc::new(thread::spawn(|| ())),
    }));
    let pen = Rc::new(log.pen(0).unwrap());
    for _ in 0..RECORDS_MAX + 2 * RECORDS_SPARE_MAX {
        drop(pen.begin(EACH).unwrap());
    }
    let dropped = 2 * RECORDS_SPARE_MAX as u64;
    assert_eq!(
        log.counts(),
        Counts {
            written: 0,
            dropped
        }
    );
    drop(come);
}

#[test]
fn without_a_log_there_is_no_pen() {
    let log = AccessLog::default();
    assert!(log.pen(0).is_none());
    assert_eq!(log.counts(), Counts::default());
    log.end();
}

#[test]
fn about_one_in_so_many_is_chosen() {
    let log = AccessLog::start(Settings::default(), 1).unwrap();
    let pen = Rc::new(log.pen(0).unwrap());
    let ten = NonZeroU32::new(10).unwrap();
    let chosen = (0..100_000).filter(|_| pen.chooses(ten)).count();
    // Twenty times the standard deviation: never by chance.
    assert!((8_000..12_000).contains(&chosen), "{chosen}");
}

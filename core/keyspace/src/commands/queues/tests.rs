//! What the commands on queues refuse, and moves between queues.

use crate::commands::testing::Bench;

#[test]
fn a_limit_that_qinfo_could_not_show_is_refused() {
    let mut bench = Bench::new();
    for setting in ["LIMIT", "GROUPLIMIT", "MAXLEN"] {
        assert_eq!(bench.run(&format!("QSET q {setting} 9223372036854775807")), "+OK");
        let refused = bench.run(&format!("QSET q {setting} 9223372036854775808"));
        assert!(refused.starts_with("-ERR "), "{setting}: {refused}");
    }
    let info = bench.run("QINFO q");
    assert_eq!(info.matches(":9223372036854775807").count(), 3, "{info}");
}

/// The other queue adds the tick's job only when it is looked at, which is in the middle of the move.
#[test]
fn a_job_stays_where_it_is_if_a_tick_brings_its_id_to_the_other_queue() {
    let mut bench = Bench::new();
    bench.run("QADD dead p ID daily@1000010");
    let taken = bench.run("QTAKE 1 dead");
    let token = taken.split("|:").nth(1).and_then(|rest| rest.split('|').next()).unwrap();
    assert_eq!(bench.run(&format!("QFAIL dead daily@1000010 {token} DEAD")), "$4|dead");
    bench.run("QCRON target SET daily x tick");
    assert_eq!(bench.run("QCRON target NEXT daily 1000010"), ":1");
    bench.pass(20);
    assert_eq!(bench.run("QREDO dead ALL TO target"), ":0");
    assert!(bench.run("QGET dead daily@1000010").contains("|$4|dead|"));
    assert!(bench.run("QGET target daily@1000010").contains("|$4|tick|"));
}

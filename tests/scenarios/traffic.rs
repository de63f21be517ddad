//! What is written while the target follows, as `show` tells it.

use super::rig::{self, End};
use super::story::{expect, run};
use peers::writers::{Settings, Writers};
use std::time::Duration;

#[test]
#[ignore = "slow: make test-all"]
fn show_says_what_an_outage_would_meet() {
    let stage = rig::stage("traffic", 1);
    let model = &stage.model;
    rig::refresh(&stage);
    expect(model, "replicate", &[("wait", "120")], "done");
    let file = std::env::temp_dir().join(format!("oracle-traffic-{}", std::process::id()));
    let settings = Settings { rate: 40.0, connections: 2, ..Settings::new(&file) };
    let writers = Writers::start(&stage.source_uri(), &settings, "all").unwrap();
    // Two counts, some seconds apart.
    let told = |model: &emulator::Model| {
        let report = run(model, "show", &[]).result("report");
        report.contains("traffic: a second of outage meets") && !report.contains("meets 0.0")
    };
    model.wait_until("the traffic to be told", Duration::from_secs(120), told).unwrap();
    writers.stop().unwrap();
    std::fs::remove_file(file).unwrap();
    expect(model, "rollback", &[], "done");
    rig::close(&stage, End::Source);
}

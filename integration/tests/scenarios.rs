//! `make scenarios` as a test. One test for all: the last one measures times, and nothing may run beside it.

use mlgate_integration::scenarios;

#[tokio::test(flavor = "multi_thread")]
async fn each_incident_does_less_harm_with_the_gate_and_is_ended_by_its_alert() -> anyhow::Result<()> {
    let mut told = String::new();
    let fine = scenarios::play(|report| told.push_str(&report.render(false))).await?;
    println!("{told}");
    assert!(fine, "{told}");
    Ok(())
}

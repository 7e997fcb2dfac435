//! Three incidents, each without the gate and with it, from the same traffic: a stolen key, an insider, a retry loop.
//! `make scenarios` shows them, and fails unless each ends as it should.
//!
//! Without the gate means: the same Envoy, a virtual host on which the filter is switched off.
//!
//! | module | what it does |
//! |---|---|
//! | [`stage`] | what an incident happens on: gate, collector, model server, a month of generated history |
//! | [`traffic`] | sends calls at a pace, and measures each |
//! | [`stolen_key`], [`insider`], [`retry_loop`] | the incidents |
//! | [`report`] | what people read |

pub mod insider;
pub mod report;
pub mod retry_loop;
pub mod stage;
pub mod stolen_key;
pub mod traffic;

use report::Report;

/// Plays one after the other, since the last one measures times; `each` is given every report as it is made.
pub async fn play(mut each: impl FnMut(&Report)) -> anyhow::Result<bool> {
    let mut fine = true;
    let mut take = |report: Report| {
        each(&report);
        fine &= report.wrong() == 0;
    };
    take(stolen_key::play().await?);
    take(insider::play().await?);
    take(retry_loop::play().await?);
    Ok(fine)
}

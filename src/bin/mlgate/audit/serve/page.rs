//! What was read becomes one HTML page. Everything that comes from a log goes through [`Html`].

use std::fmt::{self, Write as _};

use mlgate::audit::analysis::alert::{Alert, visible};
use mlgate::audit::analysis::caller::CallerName;
use mlgate::audit::analysis::usage::Counts;
use mlgate::audit::verify::{ChainReport, Report, Verdict};
use mlgate::time::UnixTime;

use super::charts::{bar, by_time, heat, when};
use super::log::{Content, Read};
use super::query::{Query, Since};
use super::view::{MAX_DRAWN, MAX_LISTED, Pair, View};

/// A text as HTML shows it, in elements and in quoted attributes; control characters are shown as such.
pub(super) struct Html<'a>(pub(super) &'a str);

/// Alerts and chains that are shown.
const MAX_SHOWN: usize = 50;

/// The page.
pub(super) fn html(content: &Content, query: &Query) -> String {
    let read = &content.read;
    let view = View::of(read, query);
    let mut page = String::with_capacity(64 << 10);
    page.push_str(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>mlgate audit</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><link rel=\"stylesheet\" href=\"/style.css\">\
         </head><body>",
    );
    head(&mut page, content);
    page.push_str("<main>");
    filters(&mut page, query, &view);
    tiles(&mut page, &view, content);
    alerts(&mut page, read, query);
    over_time(&mut page, &view);
    models(&mut page, &view, query);
    reasons(&mut page, &view);
    chains(&mut page, content.chains.as_deref());
    page.push_str("</main></body></html>\n");
    page
}

fn head(page: &mut String, content: &Content) {
    let read = &content.read;
    let _ = write!(
        page,
        "<header><h1>mlgate audit</h1><p>{} · as of {}</p>",
        Html(&read.files.join(", ")),
        time(read.now)
    );
    let mut note = |what: &str| {
        let _ = write!(page, "<p class=\"note\">{}</p>", Html(what));
    };
    if let Some(trouble) = &content.trouble {
        note(&format!("This is what the logs held before; now: {trouble}"));
    }
    if read.reading.unreadable > 0 {
        let first = read.reading.unreadable_first.values().next().map_or("", String::as_str);
        note(&format!("{} lines are unreadable, the first: {first}", number(read.reading.unreadable)));
    }
    if read.reading.duplicates > 0 {
        note(&format!("{} events came again and count once.", number(read.reading.duplicates)));
    }
    if let Some(cut) = read.rows_cut {
        note(&format!(
            "Of about {} sums only {} fit into memory: tables are incomplete.",
            cut.total, cut.kept
        ));
    }
    page.push_str("</header>");
}

fn filters(page: &mut String, query: &Query, view: &View) {
    page.push_str("<form method=\"get\" action=\"/\"><label>Time <select name=\"since\">");
    for since in Since::ALL {
        let selected = if since == query.since { " selected" } else { "" };
        let _ = write!(page, "<option value=\"{}\"{selected}>{}</option>", since.word(), since.label());
    }
    page.push_str("</select></label>");
    for (label, name, value, names) in [
        ("Principal", "principal", &query.principal, &view.principals),
        ("Model", "model", &query.model, &view.models),
    ] {
        let _ = write!(
            page,
            "<label>{label} <input name=\"{name}\" list=\"{name}s\" placeholder=\"all\" value=\"{}\"></label>\
             <datalist id=\"{name}s\">",
            Html(value.as_deref().unwrap_or_default())
        );
        for name in names {
            let _ = write!(page, "<option value=\"{}\"></option>", Html(name));
        }
        page.push_str("</datalist>");
    }
    page.push_str("<button>Show</button>");
    if query.principal.is_some() || query.model.is_some() {
        let all = Query { since: query.since, ..Query::default() };
        let _ = write!(page, "<a href=\"{}\">everybody, all models</a>", Html(&all.link()));
    }
    page.push_str("</form>");
}

fn tiles(page: &mut String, view: &View, content: &Content) {
    let total = &view.total;
    let failed = total.errors.saturating_add(total.aborted);
    let alerts = content.read.analysis.alerts_total;
    page.push_str("<section class=\"tiles\" aria-label=\"Totals\">");
    let mut tile = |class: &str, value: &str, label: &str| {
        let _ = write!(page, "<div class=\"{class}\"><b>{value}</b><span>{label}</span></div>");
    };
    tile("", &number(total.requests), "requests");
    tile("is-allowed", &number(total.allowed()), "allowed");
    tile("is-denied", &number(total.denied), "denied");
    tile("is-failed", &number(failed), "failed or left");
    let class = if alerts == 0 { "" } else { "is-bad" };
    tile(class, &alerts.to_string(), if alerts == 1 { "alert in 24 hours" } else { "alerts in 24 hours" });
    let (class, verdict) = match content.chains.as_deref().map(|report| report.verdict) {
        None => ("", "…"),
        Some(verdict) => (class_of(verdict), word(verdict)),
    };
    tile(class, verdict, "chains");
    page.push_str("</section>");
}

fn alerts(page: &mut String, read: &Read, query: &Query) {
    let analysis = &read.analysis;
    let of = match &query.principal {
        Some(principal) => format!("of {}, ", Html(principal)),
        None => String::new(),
    };
    let _ = write!(
        page,
        "<section><h2>Alerts</h2><p class=\"sub\">{of}{} to {}, whatever time is shown below</p>",
        time(analysis.since),
        time(analysis.until)
    );
    let asked: Vec<&Alert> = analysis
        .alerts
        .iter()
        .filter(|alert| match (&query.principal, &alert.caller) {
            (None, _) => true,
            (Some(wanted), CallerName::Principal(name)) => **wanted == **name,
            (Some(_), _) => false,
        })
        .collect();
    if asked.is_empty() {
        page.push_str("<p>None.</p>");
    }
    page.push_str("<div class=\"alerts\">");
    for alert in asked.iter().take(MAX_SHOWN) {
        one_alert(page, alert, query);
    }
    page.push_str("</div>");
    if query.principal.is_none() && analysis.alerts_total > MAX_SHOWN {
        let more = analysis.alerts_total.saturating_sub(MAX_SHOWN);
        let _ = write!(page, "<p>And {more} more: <code>mlgate audit analyze</code> lists them.</p>");
    }
    page.push_str("</section>");
}

fn one_alert(page: &mut String, alert: &Alert, query: &Query) {
    let caller = match &alert.caller {
        CallerName::Principal(name) => {
            let link = Query { model: None, ..query.of_principal(name) }.link();
            format!("<a href=\"{}\">{}</a>", Html(&link), Html(name))
        }
        other => Html(&other.to_string()).to_string(),
    };
    let _ = write!(
        page,
        "<article class=\"alert\"><h3><span class=\"rule\">{}</span> {caller}</h3><dl>\
         <dt>since</dt><dd>{}</dd>",
        alert.rule(),
        time(alert.since)
    );
    for (name, text) in [("seen", alert.seen()), ("normal", alert.normal()), ("threshold", alert.threshold())]
    {
        let _ = write!(page, "<dt>{name}</dt><dd>{}</dd>", Html(&text));
    }
    let _ = write!(page, "<dt>stop it</dt><dd><code>{}</code></dd></dl></article>", Html(&alert.remedy()));
}

fn over_time(page: &mut String, view: &View) {
    page.push_str(
        "<section><h2>Allowed and denied over time</h2><p class=\"legend\"><span class=\"key-allowed\">allowed</span>\
         <span class=\"key-failed\">failed or left</span><span class=\"key-denied\">denied</span> · UTC</p>",
    );
    if view.total.requests == 0 {
        page.push_str("<p>Nothing in this time. <a href=\"/?since=all\">Show everything</a></p></section>");
        return;
    }
    page.push_str(&by_time(view));
    page.push_str("<details><summary>As a table</summary>");
    table(page, &["from (UTC)", "requests", "allowed", "denied", "failed or left"], 1);
    for (column, counts) in view.by_time.iter().enumerate().filter(|(_, counts)| counts.requests > 0) {
        let _ =
            write!(page, "<tr><th scope=\"row\">{}</th>{}</tr>", when(view.columns, column), cells(counts));
    }
    page.push_str("</tbody></table></div></details></section>");
}

fn models(page: &mut String, view: &View, query: &Query) {
    page.push_str("<section><h2>Who used which model when</h2>");
    if view.pairs.is_empty() {
        page.push_str("<p>Nothing in this time.</p></section>");
        return;
    }
    page.push_str(
        "<p class=\"legend\"><span class=\"key-allowed\">the stronger the colour, the more requests</span>\
         <span class=\"key-denied low\">mostly denied</span> · UTC</p>",
    );
    page.push_str(&heat(view));
    if view.pairs_total > MAX_DRAWN {
        let _ = write!(page, "<p class=\"sub\">Drawn: the {MAX_DRAWN} with the most requests.</p>");
    }
    let heads = ["principal", "model", "requests", "allowed", "denied", "failed or left", "first", "last"];
    table(page, &heads, 2);
    for pair in &view.pairs {
        let [principal, model] = pair_name(pair);
        let link = |name: &Option<String>, shown: &str, query: &dyn Fn(&str) -> Query| match name {
            Some(name) => format!("<a href=\"{}\">{}</a>", Html(&query(name).link()), Html(shown)),
            None => Html(shown).to_string(),
        };
        let _ = write!(
            page,
            "<tr><th scope=\"row\">{}</th><td>{}</td>{}<td class=\"number\">{}</td><td class=\"number\">{}</td></tr>",
            link(&pair.principal, &principal, &|name| query.of_principal(name)),
            link(&pair.model, &model, &|name| query.of_model(name)),
            cells(&pair.counts),
            time(pair.counts.first),
            time(pair.counts.last),
        );
    }
    page.push_str("</tbody></table></div>");
    if view.pairs_total > MAX_LISTED {
        let more = view.pairs_total.saturating_sub(MAX_LISTED);
        let _ = write!(page, "<p class=\"sub\">And {} more: choose a principal or a model.</p>", more);
    }
    page.push_str("</section>");
}

fn reasons(page: &mut String, view: &View) {
    page.push_str("<section><h2>Why requests were refused or failed</h2>");
    if view.reasons.is_empty() {
        page.push_str("<p>None was.</p></section>");
        return;
    }
    table(page, &["reason", "requests", ""], 1);
    let most = view.reasons.first().map_or(1, |(_, counts)| counts.requests);
    for (reason, counts) in view.reasons.iter().take(MAX_SHOWN) {
        let requests = counts.requests;
        let _ = write!(
            page,
            "<tr><th scope=\"row\"><code>{}</code></th><td class=\"number\">{}</td><td>{}</td></tr>",
            Html(reason),
            number(requests),
            bar(requests, most)
        );
    }
    page.push_str("</tbody></table></div></section>");
}

fn chains(page: &mut String, report: Option<&Report>) {
    page.push_str("<section><h2>Is the log whole?</h2>");
    let Some(report) = report else {
        page.push_str("<p>Being checked: show the page again in a while.</p></section>");
        return;
    };
    let _ = write!(
        page,
        "<p>{} events in {} chains, {} declared lost, {} unreadable lines.</p>",
        number(report.events),
        report.chains.len(),
        number(report.lost),
        number(report.unreadable.total)
    );
    table(page, &["chain", "verdict", "end", "proof", "events", "numbers", "lost"], 4);
    let mut order: Vec<&ChainReport> = report.chains.iter().collect();
    order.sort_by_key(|chain| std::cmp::Reverse(chain.verdict));
    for chain in order.into_iter().take(MAX_SHOWN) {
        let bad = chain.first_bad_seq.map_or_else(String::new, |seq| format!(", first at {seq}"));
        let proof = match (chain.keyed, chain.proven == chain.events) {
            (false, _) => "nobody vouches (unkeyed)",
            (true, true) => "MACs right",
            (true, false) => "MACs not checked: see --chain-key",
        };
        let _ = write!(
            page,
            "<tr><th scope=\"row\"><code>{}</code></th><td class=\"{}\">{}{bad}</td><td>{}</td><td>{proof}</td>\
             <td class=\"number\">{}</td><td class=\"number\">{} to {}</td><td class=\"number\">{}</td></tr>",
            Html(&chain.chain),
            class_of(chain.verdict),
            word(chain.verdict),
            if chain.closed { "closed" } else { "open, or cut" },
            number(chain.events),
            chain.first_seq,
            chain.last_seq,
            number(chain.lost),
        );
    }
    page.push_str("</tbody></table></div>");
    let more = report.chains.len().saturating_sub(MAX_SHOWN);
    if more > 0 {
        let _ = write!(
            page,
            "<p class=\"sub\">And {more} more: <code>mlgate audit verify</code> lists them.</p>"
        );
    }
    page.push_str("</section>");
}

/// The head of a table; the first `texts` columns hold no numbers.
fn table(page: &mut String, heads: &[&str], texts: usize) {
    page.push_str("<div class=\"scroll\"><table><thead><tr>");
    for (index, head) in heads.iter().enumerate() {
        let class = if index < texts || head.is_empty() { "" } else { " class=\"number\"" };
        let _ = write!(page, "<th scope=\"col\"{class}>{head}</th>");
    }
    page.push_str("</tr></thead><tbody>");
}

fn cells(counts: &Counts) -> String {
    let failed = counts.errors.saturating_add(counts.aborted);
    [counts.requests, counts.allowed(), counts.denied, failed]
        .iter()
        .map(|count| format!("<td class=\"number\">{}</td>", number(*count)))
        .collect()
}

/// Principal and model as the page names them.
pub(super) fn pair_name(pair: &Pair) -> [String; 2] {
    let name = |name: &Option<String>, none: &str| name.clone().unwrap_or_else(|| none.to_owned());
    [name(&pair.principal, "nobody authenticated"), name(&pair.model, "no model")]
}

/// A number in groups of three.
pub(super) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && digits.len().saturating_sub(index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

fn time(millis: i64) -> String {
    let text = UnixTime::from_millis(millis).to_string();
    let (day, rest) = (text.get(..10).unwrap_or_default(), text.get(11..19).unwrap_or_default());
    format!("<time datetime=\"{text}\">{day} {rest}</time>")
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Gaps => "△ gaps, declared",
        Verdict::Intact => "✓ intact",
        Verdict::Tampered => "✗ tampered",
        Verdict::Unreadable => "? unreadable",
    }
}

const fn class_of(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Gaps | Verdict::Unreadable => "is-warn",
        Verdict::Intact => "is-good",
        Verdict::Tampered => "is-bad",
    }
}

// === impl Html ===

impl fmt::Display for Html<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in visible(self.0).chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                _ => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests;

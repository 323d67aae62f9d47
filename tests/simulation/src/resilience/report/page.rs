//! The page.

use std::fmt::Write;

use super::{Bound, Section, Table};

/// The page of all sections, complete in itself: no scripts, nothing from elsewhere. `command` makes it again.
pub fn page(command: &str, seeds: &str, sections: &[Section]) -> String {
    let bounds: Vec<&Bound> = sections.iter().flat_map(|section| &section.bounds).collect();
    let missed = bounds.iter().filter(|bound| !bound.holds).count();
    let verdict = match missed {
        0 => format!("<p class='verdict good'>All {} bounds hold.</p>", bounds.len()),
        _ => format!("<p class='verdict bad'>{missed} of {} bounds are missed.</p>", bounds.len()),
    };
    let mut out = format!(
        "<!doctype html><html lang='en'><meta charset='utf-8'>\
         <meta name='viewport' content='width=device-width, initial-scale=1'>\
         <title>Bowline: resilience in virtual time</title><style>{STYLE}</style><main>\
         <h1>Resilience in virtual time</h1><p><code>{}</code> — {}</p>{verdict}<nav>",
        escaped(command),
        escaped(seeds)
    );
    for (i, section) in sections.iter().enumerate() {
        let _ = write!(out, "<a href='#s{i}'>{}</a>", escaped(section.title));
    }
    out.push_str("</nav>");
    for (i, section) in sections.iter().enumerate() {
        write_section(&mut out, i, section);
    }
    out.push_str("</main></html>\n");
    out
}

fn write_section(out: &mut String, number: usize, section: &Section) {
    let _ = write!(out, "<section id='s{number}'><h2>{}</h2>", escaped(section.title));
    for paragraph in section.text.split("\n\n") {
        let _ = write!(out, "<p>{}</p>", escaped(paragraph));
    }
    if !section.bounds.is_empty() {
        out.push_str(
            "<div class='scroll'><table class='bounds'><thead><tr><th>Bound</th><th>wanted</th><th>seen</th><th></th></tr></thead>",
        );
        for Bound { what, wanted, seen, holds } in &section.bounds {
            let (class, mark) = if *holds { ("good", "✓") } else { ("bad", "✗ missed") };
            let _ = write!(
                out,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td class='{class}'>{mark}</td></tr>",
                escaped(what),
                escaped(wanted),
                escaped(seen)
            );
        }
        out.push_str("</table></div>");
    }
    out.push_str("<div class='plots'>");
    section.lines.iter().for_each(|plot| out.push_str(&plot.svg()));
    section.bars.iter().for_each(|plot| out.push_str(&plot.svg()));
    out.push_str("</div>");
    out.push_str("<div class='tables'>");
    section.tables.iter().for_each(|table| write_table(out, table));
    out.push_str("</div></section>");
}

fn write_table(out: &mut String, table: &Table) {
    let _ = write!(out, "<div class='scroll'><table><caption>{}</caption><thead><tr>", escaped(&table.title));
    table.header.iter().for_each(|name| {
        let _ = write!(out, "<th>{}</th>", escaped(name));
    });
    out.push_str("</tr></thead>");
    for row in &table.rows {
        out.push_str("<tr>");
        row.iter().for_each(|cell| {
            let _ = write!(out, "<td>{}</td>", escaped(cell));
        });
        out.push_str("</tr>");
    }
    out.push_str("</table></div>");
}

/// Text that is nothing but text.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;")
}

/// Six colours that are told apart without red and green (after Okabe and Ito).
const STYLE: &str = "\
:root{color-scheme:light dark;--c0:#0072b2;--c1:#56b4e9;--c2:#8a8a8a;--c3:#e69f00;--c4:#cc79a7;--c5:#009e73;\
--ink:#1c1e21;--paper:#fff;--soft:#6b7075;--rule:#e1e4e8;--good:#1a7f4b;--bad:#b3261e}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e6e6;--paper:#15171a;--soft:#9aa0a6;--rule:#30343a;\
--good:#5bd197;--bad:#ff8a80}}\
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}\
main{max-width:1320px;margin:auto;padding:24px}h1{margin:0 0 8px}h2{margin:0 0 8px}\
section{border-top:1px solid var(--rule);margin-top:28px;padding-top:22px}section>p{max-width:80ch}\
code{background:var(--rule);padding:2px 6px;border-radius:4px}\
nav a{margin-right:16px;color:var(--c0)}\
.verdict{font-weight:600}.good{color:var(--good)}.bad{color:var(--bad);font-weight:600}\
.scroll{overflow-x:auto;margin:14px 0}table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
caption{text-align:left;font-weight:600;padding:4px 0}\
th,td{text-align:right;padding:3px 10px 3px 0;border-bottom:1px solid var(--rule);white-space:nowrap}\
.bounds td,figcaption{white-space:normal}.bounds td:last-child{white-space:nowrap}\
th{color:var(--soft);font-weight:500}th:first-child,td:first-child{text-align:left}\
.tables{display:flex;flex-wrap:wrap;column-gap:24px;align-items:start}.tables>div{max-width:100%}\
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:18px}\
figure{margin:0;max-width:700px}figcaption{font-weight:600}svg{width:100%;height:auto;display:block}\
svg text{fill:var(--soft);font-size:12px}.grid{stroke:var(--rule)}polyline{fill:none;stroke-width:2}\
.line0{stroke:var(--c0)}.line1{stroke:var(--c1)}.line2{stroke:var(--c2)}.line3{stroke:var(--c3)}\
.line4{stroke:var(--c4)}.line5{stroke:var(--c5)}\
.fill0{fill:var(--c0);background:var(--c0)}.fill1{fill:var(--c1);background:var(--c1)}\
.fill2{fill:var(--c2);background:var(--c2)}.fill3{fill:var(--c3);background:var(--c3)}\
.fill4{fill:var(--c4);background:var(--c4)}.fill5{fill:var(--c5);background:var(--c5)}\
.legend{margin:2px 0 0;font-size:13px;color:var(--soft)}.legend span{margin-right:16px;white-space:nowrap}\
.legend i{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:5px}";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resilience::report::Unit;

    #[test]
    fn a_missed_bound_is_marked_and_nothing_is_taken_for_markup() {
        let mut section = Section::new("A < B", "first\n\nsecond");
        section.at_least("more", 1.0, 2.0, Unit::Count);
        let page = page("simulate --from '1'", "1 seed", &[section]);
        assert!(page.contains("A &lt; B") && page.contains("<p>second</p>"));
        assert!(page.contains("1 of 1 bounds are missed") && page.contains("✗ missed"));
        assert!(page.contains("&#39;1&#39;") && !page.contains("<script") && !page.contains("http"));
    }
}

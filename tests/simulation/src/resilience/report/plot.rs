//! Plots as SVG.

use std::fmt::Write;

use super::page::escaped;

/// What is along an axis.
#[derive(Clone, Debug, Default)]
pub struct Axis {
    /// What it shows.
    pub label: &'static str,
    /// Equal factors are equally far apart.
    pub log: bool,
    /// What it ends at; the largest value where nothing is said.
    pub most: Option<f64>,
    /// Where it has marks; round numbers where nothing is said.
    pub ticks: Vec<f64>,
}

/// Lines over numbers.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// What it shows.
    pub title: String,
    /// From left to right.
    pub x: Axis,
    /// From below.
    pub y: Axis,
    /// By name: points from left to right.
    pub series: Vec<(String, Vec<(f64, f64)>)>,
}

/// Bars beside each other, for each of several groups.
#[derive(Clone, Debug, Default)]
pub struct Bars {
    /// What it shows.
    pub title: String,
    /// From below.
    pub y: Axis,
    /// Names of groups.
    pub groups: Vec<String>,
    /// By name: a value for each group.
    pub series: Vec<(String, Vec<f64>)>,
}

const WIDTH: f64 = 620.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 46.0;

/// From a value to its place.
struct Scale {
    log: bool,
    least: f64,
    most: f64,
    from: f64,
    to: f64,
    ticks: Vec<f64>,
}

impl Scale {
    fn new(axis: &Axis, values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let finite = values.filter(|value| value.is_finite() && (!axis.log || *value > 0.0));
        let most = axis.most.unwrap_or_else(|| finite.clone().fold(0.0, f64::max)).max(1e-9);
        let least = if axis.log { finite.fold(most, f64::min) } else { 0.0 };
        let (least, most) = if axis.log { (least / 1.05, most * 1.05) } else { (least, most * 1.02) };
        let ticks = if !axis.ticks.is_empty() {
            axis.ticks.clone()
        } else if axis.log {
            decades(least, most)
        } else {
            steps(most)
        };
        let ticks = ticks.into_iter().filter(|tick| (least..=most).contains(tick)).collect();
        Self { log: axis.log, least, most, from, to, ticks }
    }

    /// Beyond an end is at that end.
    fn at(&self, value: f64) -> f64 {
        let value = value.clamp(self.least, self.most);
        let part = if self.log {
            (value / self.least).ln() / (self.most / self.least).ln()
        } else {
            (value - self.least) / (self.most - self.least)
        };
        self.from + part * (self.to - self.from)
    }
}

/// 1, 2 and 5 of each decade.
fn decades(least: f64, most: f64) -> Vec<f64> {
    let first = least.log10().floor() as i32;
    let last = most.log10().ceil() as i32;
    let few = last - first > 2;
    let marks: &[f64] = if few { &[1.0] } else { &[1.0, 2.0, 5.0] };
    (first..=last).flat_map(|decade| marks.iter().map(move |mark| mark * 10_f64.powi(decade))).collect()
}

/// Four to eight round steps.
fn steps(most: f64) -> Vec<f64> {
    let rough = most / 5.0;
    let decade = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|mark| mark * decade).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    (0..=8).map(|i| step * f64::from(i)).filter(|tick| *tick <= most).collect()
}

fn told(value: f64) -> String {
    let text = if value >= 100.0 || value == 0.0 {
        format!("{value:.0}")
    } else if value >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// The frame: title, axis of values, and its grid.
fn begin(out: &mut String, title: &str, y: &Axis, scale: &Scale) {
    let _ = write!(
        out,
        "<figure><figcaption>{}</figcaption><svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{}'>",
        escaped(title),
        escaped(title)
    );
    for tick in &scale.ticks {
        let at = scale.at(*tick);
        let _ = write!(
            out,
            "<line class='grid' x1='{LEFT}' x2='{}' y1='{at:.1}' y2='{at:.1}'/>\
             <text x='{}' y='{:.1}' text-anchor='end'>{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            told(*tick)
        );
    }
    let middle = (TOP + HEIGHT - BOTTOM) / 2.0;
    let _ = write!(
        out,
        "<text transform='translate(14 {middle}) rotate(-90)' text-anchor='middle'>{}</text>",
        escaped(y.label)
    );
}

/// Its end: what has which colour.
fn end(out: &mut String, names: impl Iterator<Item = String>) {
    out.push_str("</svg><p class='legend'>");
    for (i, name) in names.enumerate() {
        let _ = write!(out, "<span><i class='fill{}'></i>{}</span>", i % COLOURS, escaped(&name));
    }
    out.push_str("</p></figure>");
}

/// How many colours the page has.
pub(super) const COLOURS: usize = 6;

impl Lines {
    pub(super) fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|(_, points)| points.iter().copied());
        let x = Scale::new(&self.x, points().map(|(x, _)| x), LEFT, WIDTH - RIGHT);
        let y = Scale::new(&self.y, points().map(|(_, y)| y), HEIGHT - BOTTOM, TOP);
        let mut out = String::new();
        begin(&mut out, &self.title, &self.y, &y);
        let base = HEIGHT - BOTTOM;
        for tick in &x.ticks {
            let at = x.at(*tick);
            let _ = write!(
                out,
                "<line class='grid' x1='{at:.1}' x2='{at:.1}' y1='{TOP}' y2='{base}'/>\
                 <text x='{at:.1}' y='{}' text-anchor='middle'>{}</text>",
                base + 16.0,
                told(*tick)
            );
        }
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        let label = escaped(self.x.label);
        let _ = write!(out, "<text x='{middle}' y='{}' text-anchor='middle'>{label}</text>", HEIGHT - 8.0);
        for (i, (_, points)) in self.series.iter().enumerate() {
            let places: Vec<_> = points.iter().map(|(px, py)| (x.at(*px), y.at(*py))).collect();
            let path: Vec<_> = places.iter().map(|(px, py)| format!("{px:.1},{py:.1}")).collect();
            let _ = write!(out, "<polyline class='line{}' points='{}'/>", i % COLOURS, path.join(" "));
            if places.len() <= 20 {
                for (px, py) in places {
                    let colour = i % COLOURS;
                    let _ = write!(out, "<circle class='fill{colour}' cx='{px:.1}' cy='{py:.1}' r='3'/>");
                }
            }
        }
        end(&mut out, self.series.iter().map(|(name, _)| name.clone()));
        out
    }
}

impl Bars {
    pub(super) fn svg(&self) -> String {
        let values = self.series.iter().flat_map(|(_, values)| values.iter().copied());
        let y = Scale::new(&self.y, values, HEIGHT - BOTTOM, TOP);
        let mut out = String::new();
        begin(&mut out, &self.title, &self.y, &y);
        let base = HEIGHT - BOTTOM;
        let group = (WIDTH - LEFT - RIGHT) / self.groups.len().max(1) as f64;
        let bar = group * 0.8 / self.series.len().max(1) as f64;
        for (place, name) in self.groups.iter().enumerate() {
            let left = LEFT + group * place as f64;
            let (middle, name) = (left + group / 2.0, escaped(name));
            let _ =
                write!(out, "<text x='{middle:.1}' y='{}' text-anchor='middle'>{name}</text>", base + 16.0);
            for (i, (_, values)) in self.series.iter().enumerate() {
                let Some(value) = values.get(place) else { continue };
                let (from, top) = (left + group * 0.1 + bar * i as f64, y.at(*value));
                let _ = write!(
                    out,
                    "<rect class='fill{}' x='{from:.1}' y='{top:.1}' width='{:.1}' height='{:.1}'/>",
                    i % COLOURS,
                    (bar - 1.0).max(1.0),
                    (base - top).max(0.5)
                );
            }
        }
        end(&mut out, self.series.iter().map(|(name, _)| name.clone()));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_beyond_the_axis_stay_within_the_plot() {
        let axis = Axis { most: Some(10.0), ..Axis::default() };
        let scale = Scale::new(&axis, [1.0, 500.0].into_iter(), 0.0, 100.0);
        assert_eq!(scale.at(500.0), 100.0);
        assert_eq!(scale.at(0.0), 0.0);
        assert_eq!(scale.ticks, [0.0, 2.5, 5.0, 7.5, 10.0]);
    }

    #[test]
    fn equal_factors_are_equally_far_apart_on_a_logarithmic_axis() {
        let axis = Axis { log: true, ..Axis::default() };
        let scale = Scale::new(&axis, [1.0, 10.0, 100.0, 0.0].into_iter(), 0.0, 100.0);
        let (near, far) = (scale.at(10.0) - scale.at(1.0), scale.at(100.0) - scale.at(10.0));
        assert!((near - far).abs() < 1e-6, "{near} {far}");
    }

    #[test]
    fn numbers_are_told_without_idle_zeros() {
        assert_eq!([0.0, 0.05, 1.5, 10.0, 1_000.0].map(told), ["0", "0.05", "1.5", "10", "1000"]);
    }

    #[test]
    fn a_plot_of_nothing_is_still_one() {
        for svg in [Lines::default().svg(), Bars::default().svg()] {
            assert!(svg.starts_with("<figure>") && svg.ends_with("</figure>") && !svg.contains("NaN"));
        }
    }
}

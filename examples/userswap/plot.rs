//! Memory and latency over time, as a picture: SVG, written by hand.

use super::report::{Report, phase_names};
use super::watch::Point;
use std::fmt::{self, Write};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 800.0;

/// A part of the picture, with an axis of its own.
struct Panel {
    top: f64,
    bottom: f64,
    least: f64,
    most: f64,
    logarithmic: bool,
}

impl Panel {
    /// Returns the vertical position of a value.
    fn y(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.logarithmic { value.max(1e-3).log10() } else { value };
        let (least, most) = (scale(self.least), scale(self.most));
        let part = ((scale(value) - least) / (most - least)).clamp(0.0, 1.0);
        self.bottom - part * (self.bottom - self.top)
    }

    /// Returns the values marked on the axis: few, and round ones.
    fn ticks(&self) -> Vec<f64> {
        if self.logarithmic {
            let (first, last) = (self.least.log10().ceil() as i32, self.most.log10().floor() as i32);
            return (first..=last).map(|power| 10f64.powi(power)).collect();
        }
        let step = round_step((self.most - self.least) / 6.0);
        (0..).map(|tick| f64::from(tick) * step).take_while(|value| *value <= self.most).collect()
    }
}

/// Returns 1, 2 or 5 times a power of ten: the least that is at least `least`.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.max(1e-9).log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= least).unwrap_or(power * 10.0)
}

/// A line of the picture.
struct Line {
    name: &'static str,
    colour: &'static str,
    value: fn(&Point) -> Option<f64>,
}

fn mib(bytes: u64) -> Option<f64> {
    Some(bytes as f64 / f64::from(1 << 20))
}

const MEMORY: [Line; 5] = [
    Line { name: "region + staging", colour: "#1f77b4", value: |point| mib(point.resident) },
    Line { name: "staged", colour: "#17becf", value: |point| mib(point.staged) },
    Line { name: "compressed", colour: "#2ca02c", value: |point| mib(point.compressed) },
    Line { name: "on tiers", colour: "#8c564b", value: |point| (point.file > 0).then_some(mib(point.file)?) },
    Line { name: "process", colour: "#7f7f7f", value: |point| mib(point.process) },
];

const LATENCY: [Line; 2] = [
    Line { name: "p50", colour: "#1f77b4", value: |point| point.p50 },
    Line { name: "p99", colour: "#ff7f0e", value: |point| point.p99 },
];

/// Draws the picture.
pub fn svg(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string can't fail.
    let _ = draw(&mut out, report);
    out
}

fn draw(out: &mut String, report: &Report) -> fmt::Result {
    let (args, points) = (&report.args, &report.watched.points[..]);
    let end = points.last().map_or(1.0, |point| point.seconds).max(0.1);
    writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 640" font-family="sans-serif" font-size="12">"#
    )?;
    writeln!(out, r#"<rect width="{WIDTH}" height="640" fill="white"/>"#)?;
    let values = |lines: &[Line], panel: fn(f64, f64) -> f64| {
        let all = points.iter().flat_map(|point| lines.iter().filter_map(move |line| (line.value)(point)));
        all.reduce(panel)
    };
    let [limit, both] = [args.limit, args.limit + args.pool_limit].map(|bytes| bytes as f64 / f64::from(1 << 20));
    let most = values(&MEMORY, f64::max).unwrap_or(0.0).max(limit) * 1.08;
    let memory = Panel { top: 40.0, bottom: 340.0, least: 0.0, most, logarithmic: false };
    let [least, most] = [values(&LATENCY, f64::min).unwrap_or(1.0), values(&LATENCY, f64::max).unwrap_or(1000.0)];
    let power = |value: f64, round: fn(f64) -> f64| 10f64.powf(round(value.max(0.1).log10()));
    let (least, most) = (power(least, f64::floor), power(most * 1.01, f64::ceil));
    let latency = Panel { top: 390.0, bottom: 590.0, least, most, logarithmic: true };
    let x = |seconds: f64| LEFT + seconds / end * (RIGHT - LEFT);
    draw_phases(out, report, &x)?;
    for (panel, lines, name) in [(&memory, &MEMORY[..], "memory, MiB"), (&latency, &LATENCY[..], "slow touches, us")] {
        draw_axis(out, panel, name)?;
        draw_lines(out, panel, lines, points, &x)?;
    }
    for (name, value) in
        [("limit", limit), ("both limits", both)].into_iter().filter(|(_, value)| *value <= memory.most)
    {
        let y = memory.y(value);
        writeln!(out, r##"<path d="M{LEFT} {y:.1}H{RIGHT}" stroke="#d62728" stroke-dasharray="6 4"/>"##)?;
        writeln!(
            out,
            r##"<text x="{}" y="{:.1}" fill="#d62728" text-anchor="end">{name}</text>"##,
            RIGHT - 6.0,
            y - 4.0
        )?;
    }
    let step = round_step(end / 10.0);
    for tick in (0..).map(|tick| f64::from(tick) * step).take_while(|tick| *tick <= end) {
        writeln!(
            out,
            r##"<path d="M{0:.1} 590v5" stroke="#444"/><text x="{0:.1}" y="608" text-anchor="middle">{1}</text>"##,
            x(tick),
            short(tick)
        )?;
    }
    writeln!(out, r#"<text x="{:.1}" y="628" text-anchor="middle">seconds</text>"#, (LEFT + RIGHT) / 2.0)?;
    writeln!(out, "</svg>")
}

fn short(number: f64) -> String {
    format!("{}", (number * 1e6).round() / 1e6)
}

/// Marks where each phase of the run begins.
fn draw_phases(out: &mut String, report: &Report, x: &impl Fn(f64) -> f64) -> fmt::Result {
    let names = phase_names(&report.args);
    for (phase, name) in names.iter().enumerate() {
        if let Some(first) = report.watched.points.iter().find(|point| point.phase == phase) {
            let x = x(first.seconds);
            writeln!(
                out,
                r##"<path d="M{x:.1} 30V590" stroke="#bbb"/><text x="{:.1}" y="26">{name}</text>"##,
                x + 2.0
            )?;
        }
    }
    Ok(())
}

fn draw_axis(out: &mut String, panel: &Panel, name: &str) -> fmt::Result {
    let (top, bottom) = (panel.top, panel.bottom);
    writeln!(out, r##"<path d="M{LEFT} {top}V{bottom}H{RIGHT}" stroke="#444" fill="none"/>"##)?;
    for tick in panel.ticks() {
        let y = panel.y(tick);
        writeln!(out, r##"<path d="M{LEFT} {y:.1}H{RIGHT}" stroke="#eee"/>"##)?;
        writeln!(out, r#"<text x="{}" y="{:.1}" text-anchor="end">{}</text>"#, LEFT - 8.0, y + 4.0, short(tick))?;
    }
    let middle = (top + bottom) / 2.0;
    writeln!(out, r#"<text transform="translate(20 {middle}) rotate(-90)" text-anchor="middle">{name}</text>"#)
}

fn draw_lines(
    out: &mut String,
    panel: &Panel,
    lines: &[Line],
    points: &[Point],
    x: &impl Fn(f64) -> f64,
) -> fmt::Result {
    let there = lines.iter().filter(|line| points.iter().any(|point| (line.value)(point).is_some()));
    for (row, line) in there.enumerate() {
        let mut path = String::new();
        let mut pen = 'M';
        for point in points {
            match (line.value)(point) {
                Some(value) => {
                    write!(path, "{pen}{:.1} {:.1}", x(point.seconds), panel.y(value))?;
                    pen = 'L';
                }
                // A gap in the line: there was no value at this point.
                None => pen = 'M',
            }
        }
        let (colour, name, y) = (line.colour, line.name, panel.top + 12.0 + 18.0 * row as f64);
        writeln!(out, r#"<path d="{path}" stroke="{colour}" fill="none" stroke-width="1.5"/>"#)?;
        writeln!(out, r#"<text x="{}" y="{y:.1}" fill="{colour}">{name}</text>"#, RIGHT + 10.0)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_few_and_round_numbers() {
        assert_eq!([0.3, 7.0, 20.0, 170.0].map(round_step), [0.5, 10.0, 20.0, 200.0]);
        let panel = Panel { top: 0.0, bottom: 100.0, least: 1.0, most: 1000.0, logarithmic: true };
        assert_eq!(panel.ticks(), [1.0, 10.0, 100.0, 1000.0]);
        assert!((panel.y(1000.0), panel.y(1.0)) == (0.0, 100.0) && (panel.y(10.0) - 66.7).abs() < 0.1);
    }
}

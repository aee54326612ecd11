//! The report as one page that needs nothing else: tables with bars, and plots, on dark and on light ground.

use std::fmt::Write as _;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::{
    Curve, Measured,
    figure::{Figure, shown},
    goal::Goal,
};

/// Of a plot, in pixels.
const SIZE: (u32, u32) = (720, 320);

/// What is written beside axes and lines.
const LABELS: (&str, i32) = ("sans-serif", 17);

/// Of the lines: all of them are seen on dark and on light ground.
const COLOURS: [RGBColor; 3] =
    [RGBColor(0x1f, 0x8a, 0xd6), RGBColor(0xe0, 0x7b, 0x2c), RGBColor(0x3f, 0xa3, 0x4d)];

const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>log-tail: measured</title>
<style>
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  background: light-dark(#fff, #16181c); color: light-dark(#1b1d21, #e4e6ea); }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem; }
th, td { padding: .2rem .6rem; text-align: left; border-bottom: 1px solid light-dark(#ddd, #333840); }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td.bar { width: 34%; }
td.bar div { height: .9rem; background: #1f8ad6; border-radius: 2px; }
td.bar div.ours { background: #e07b2c; }
.met { color: light-dark(#1d7a33, #6ccf81); } .missed { color: light-dark(#b3261e, #ff8a80); font-weight: 600; }
svg { max-width: 100%; height: auto; }
</style></head><body>
<h1>log-tail: measured</h1>
"#;

/// The page.
pub fn page(machine: &str, results: &[(&str, &str, Measured)]) -> Result<String> {
    let mut page = HEAD.to_owned();
    let _ = writeln!(
        page,
        "<p>{}. Each figure is the median of its runs, which took turns; beside it the middle half of them. Bars are \
         drawn from 0, those of one unit beside each other; log-tail's are orange.</p>",
        escaped(machine)
    );
    for (name, what, Measured { figures, goals, curves }) in results {
        let _ = writeln!(page, "<h2>{}</h2>\n<p>{}</p>", escaped(name), escaped(what));
        goal_rows(&mut page, goals);
        figure_rows(&mut page, figures);
        let mut titles: Vec<&str> = curves.iter().map(|curve| curve.title).collect();
        titles.sort_unstable();
        titles.dedup();
        for title in titles {
            let together: Vec<&Curve> = curves.iter().filter(|curve| curve.title == title).collect();
            page.push_str(&plot(title, &together)?);
        }
    }
    page.push_str("</body></html>\n");
    Ok(page)
}

fn goal_rows(page: &mut String, goals: &[Goal]) {
    if goals.is_empty() {
        return;
    }
    page.push_str("<table><tr><th>to reach</th><th>is</th><th>is to be</th><th></th></tr>\n");
    for goal in goals {
        let (sign, limit) = goal.limit.sign();
        let (class, word) = if goal.is_met() { ("met", "met") } else { ("missed", "not met") };
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td class=number>{} {unit}</td><td class=number>{sign} {} {unit}</td>\
             <td class={class}>{word}</td></tr>",
            escaped(&goal.what),
            shown(goal.value),
            shown(limit),
            unit = escaped(goal.unit),
        );
    }
    page.push_str("</table>\n");
}

fn figure_rows(page: &mut String, figures: &[Figure]) {
    page.push_str("<table><tr><th>case</th><th>median</th><th>middle half</th><th></th></tr>\n");
    for figure in figures {
        let of_unit = figures.iter().filter(|other| other.unit == figure.unit);
        let most = of_unit.map(Figure::median).fold(f64::MIN_POSITIVE, f64::max);
        let class = if figure.case.starts_with("log-tail") { " class=ours" } else { "" };
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td class=number>{} {}</td><td class=number>{} to {}</td>\
             <td class=bar><div{class} style=\"width:{:.1}%\"></div></td></tr>",
            escaped(&figure.case),
            shown(figure.median()),
            escaped(figure.unit),
            shown(figure.quantile(0.25)),
            shown(figure.quantile(0.75)),
            (figure.median() / most * 100.0).clamp(0.0, 100.0)
        );
    }
    page.push_str("</table>\n");
}

/// Curves on logarithmic axes, as a picture that takes the page's colour: what grows in proportion rises as steeply as
/// the squares' diagonal, what stays is level.
fn plot(title: &str, curves: &[&Curve]) -> Result<String> {
    let range = |of: fn(&(f64, f64)) -> f64| {
        let values = || curves.iter().flat_map(|curve| &curve.points).map(of);
        let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
        // Whole powers of ten: those are what is written beside the axes.
        10_f64.powf(least.log10().floor())..10_f64.powf((most * 0.999).log10().ceil())
    };
    let mut picture = String::new();
    {
        let area = SVGBackend::with_string(&mut picture, SIZE).into_drawing_area();
        let failed = |error: DrawingAreaErrorKind<_>| anyhow!("drawing {title}: {error}");
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 22))
            .margin(12)
            .margin_right(48)
            .x_label_area_size(42)
            .y_label_area_size(70)
            .build_cartesian_2d(range(|point| point.0).log_scale(), range(|point| point.1).log_scale())
            .map_err(failed)?;
        let (x, y) = curves.first().map_or(("", ""), |curve| (curve.x, curve.y));
        chart
            .configure_mesh()
            .x_desc(x)
            .y_desc(y)
            .x_labels(6)
            .y_labels(6)
            .x_label_formatter(&|x| shown(*x))
            .y_label_formatter(&|y| shown(*y))
            .label_style(LABELS)
            .axis_desc_style(LABELS)
            .light_line_style(TRANSPARENT)
            .draw()
            .map_err(failed)?;
        for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
            let style = colour.stroke_width(2);
            chart
                .draw_series(LineSeries::new(curve.points.iter().copied(), style).point_size(3))
                .map_err(failed)?
                .label(curve.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
        let legend = SeriesLabelPosition::LowerRight;
        chart
            .configure_series_labels()
            .position(legend)
            .label_font(LABELS)
            .border_style(BLACK)
            .draw()
            .map_err(failed)?;
        area.present().map_err(failed)?;
    }
    Ok(picture.replace("#000000", "currentColor"))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::goal::Limit;

    #[test]
    fn the_page_has_every_figure_goal_and_curve() {
        let figures = [("nobody <1>", 10.0), ("log-tail", 20.0)]
            .map(|(case, value)| Figure { values: vec![value], ..Figure::new(case, "ns") });
        let goals = vec![Goal::ratio(&figures[1], &figures[0], Limit::AtMost(1.5))];
        let points = vec![(1e3, 1.0), (1e6, 700.0)];
        let curves = vec![Curve { title: "memory by files", x: "files", y: "MiB", name: "inotify", points }];
        let measured = Measured { figures: figures.into(), goals, curves };
        let page = page("a machine", &[("a-name", "what it is", measured)]).expect("a page");
        for part in [
            "nobody &lt;1&gt;",
            "20.0 ns",
            "not met",
            "<svg",
            "memory by files",
            "\ninotify\n",
            "width:50.0%",
        ] {
            assert!(page.contains(part), "no {part} in:\n{page}");
        }
        assert!(!page.contains("#000000"), "black on dark ground");
    }
}

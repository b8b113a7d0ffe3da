//! The table as a picture.

use std::fmt::Write;

use super::cells::BenchReport;

const WIDTH: f64 = 720.0;
const ROW: f64 = 34.0;
const LEFT: f64 = 150.0;
const TOP: f64 = 56.0;

/// Returns an SVG picture: for each cell the speed-up as a bar, and the bound as a line across it.
pub fn picture(report: &BenchReport) -> String {
    let largest = report.cells.iter().map(|cell| cell.bound.max(cell.speedup)).fold(1.0, f64::max);
    let height = TOP + ROW * report.cells.len() as f64 + 16.0;
    let scale = (WIDTH - LEFT - 90.0) / largest;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"22\" font-size=\"15\" fill=\"#1b1b1b\">{}</text>\n\
         <text x=\"12\" y=\"42\" fill=\"#555555\">context × query; bar: speed-up of the first token, line: bound by \
         operations</text>\n",
        escaped(&format!("{} ({} threads, {})", report.model, report.threads, report.cpu)),
    );
    for (row, cell) in report.cells.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        let (bar, line) = (cell.speedup * scale, LEFT + cell.bound * scale);
        // Writing to a text cannot fail.
        let _ = writeln!(
            svg,
            "<text x=\"12\" y=\"{:.1}\" fill=\"#1b1b1b\">{} × {}</text>\
             <rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{bar:.1}\" height=\"20\" rx=\"2\" fill=\"#3f7fbf\"/>\
             <line x1=\"{line:.1}\" x2=\"{line:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#c0392b\" stroke-width=\"2\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#1b1b1b\">{:.1}× ({:.0}%)</text>",
            y + 16.0,
            cell.context,
            cell.query,
            y + 2.0,
            y - 1.0,
            y + 25.0,
            LEFT + bar.max(line - LEFT) + 8.0,
            y + 17.0,
            cell.speedup,
            cell.pct_of_bound,
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

//! A chart as SVG: frame, grid, labels, lines and points.

use super::axis::Axis;
use super::markup::escape;

/// Width of a chart in its own units; the page scales it.
const WIDTH: f64 = 960.0;
/// Space for labels.
const LEFT: f64 = 84.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 52.0;
/// Height of a lane for events.
const STRIP_HEIGHT: f64 = 14.0;

/// A chart under construction.
pub(super) struct Chart {
    id: String,
    title: String,
    description: String,
    height: f64,
    /// Space below the plot for labels.
    bottom: f64,
    x: Axis,
    y: Axis,
    body: String,
}

impl Chart {
    /// A chart without lines. `id` is unique on the page and made of letters, digits and dashes; `height` is that of
    /// the plot without its labels.
    pub(super) fn new(id: String, title: &str, description: &str, height: f64, x: Axis, y: Axis) -> Self {
        Self {
            id,
            title: title.to_owned(),
            description: description.to_owned(),
            height,
            bottom: BOTTOM,
            x,
            y,
            body: String::new(),
        }
    }
    /// A lane for events, flat and without labels, under a chart with the same `x`.
    pub(super) fn strip(id: String, title: &str, description: &str, mut x: Axis) -> Self {
        x.label.clear();
        x.ticks.clear();
        let mut y = Axis::from_zero("", 1.0);
        y.ticks.clear();
        let lane = Self::new(id, title, description, STRIP_HEIGHT, x, y);
        Self { bottom: TOP, ..lane }
    }
    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (LEFT + self.x.position(x) * (WIDTH - LEFT - RIGHT), TOP + (1.0 - self.y.position(y)) * self.height)
    }
    /// A line through `points`.
    pub(super) fn line(&mut self, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        let mut path = String::new();
        for point in points {
            let (x, y) = self.at(point);
            path += &format!("{}{x:.1} {y:.1}", if path.is_empty() { "M" } else { "L" });
        }
        if !path.is_empty() {
            self.body += &format!("<path class=\"line {class}\" d=\"{path}\"/>\n");
        }
    }
    /// A point that tells `what` when it is pointed at.
    pub(super) fn point(&mut self, class: &str, point: (f64, f64), what: &str) {
        let (x, y) = self.at(point);
        self.body += &format!(
            "<circle class=\"point {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"><title>{}</title></circle>\n",
            escape(what)
        );
    }
    /// A limit or a target, from side to side, with its name.
    pub(super) fn limit(&mut self, class: &str, y: f64, name: &str) {
        let (left, at) = self.at((f64::MIN, y));
        let right = WIDTH - RIGHT;
        // Below the line where there is no space above it.
        let label_y = if at < TOP + 16.0 { at + 14.0 } else { at - 5.0 };
        self.body += &format!(
            "<path class=\"limit {class}\" d=\"M{left:.1} {at:.1}H{right:.1}\"/>\
             <text class=\"note\" x=\"{:.1}\" y=\"{label_y:.1}\" text-anchor=\"end\">{}</text>\n",
            right - 4.0,
            escape(name)
        );
    }
    /// A border between parts of the chart, with the name of what begins there.
    pub(super) fn border(&mut self, x: f64, name: &str) {
        let (at, _) = self.at((x, 0.0));
        let bottom = TOP + self.height;
        self.body += &format!(
            "<path class=\"border\" d=\"M{at:.1} {TOP}V{bottom:.1}\"/>\
             <text class=\"note\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
            at + 5.0,
            TOP + 13.0,
            escape(name)
        );
    }
    /// An event at `x`, drawn from bottom to top.
    pub(super) fn event(&mut self, class: &str, x: f64, what: &str) {
        let (at, _) = self.at((x, 0.0));
        self.body += &format!(
            "<path class=\"event {class}\" d=\"M{at:.1} {TOP}v{:.1}\"><title>{}</title></path>\n",
            self.height,
            escape(what)
        );
    }
    /// The SVG element.
    pub(super) fn render(self) -> String {
        let height = TOP + self.height + self.bottom;
        let Self { id, title, description, .. } = &self;
        let (title, description) = (escape(title), escape(description));
        format!(
            "<svg id=\"{id}\" class=\"chart\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
             aria-labelledby=\"{id}-title {id}-description\">\n\
             <title id=\"{id}-title\">{title}</title><desc id=\"{id}-description\">{description}</desc>\n\
             {}{}</svg>\n",
            self.grid(),
            self.body
        )
    }
    fn grid(&self) -> String {
        let (bottom, right) = (TOP + self.height, WIDTH - RIGHT);
        let mut grid = String::new();
        for (value, label) in &self.y.ticks {
            let y = TOP + (1.0 - self.y.position(*value)) * self.height;
            grid += &format!(
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                LEFT - 8.0,
                y + 4.0,
                escape(label)
            );
        }
        for (value, label) in &self.x.ticks {
            let x = LEFT + self.x.position(*value) * (WIDTH - LEFT - RIGHT);
            grid += &format!(
                "<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom}\"/>\
                 <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
                bottom + 18.0,
                escape(label)
            );
        }
        let (middle_x, middle_y) = ((LEFT + right) / 2.0, TOP + self.height / 2.0);
        grid + &format!(
            "<path class=\"frame\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>\n\
             <text class=\"axis\" x=\"{middle_x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
             <text class=\"axis\" transform=\"translate(16 {middle_y:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
            bottom + 42.0,
            escape(&self.x.label),
            escape(&self.y.label)
        )
    }
}

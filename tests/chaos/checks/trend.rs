//! Of the trend.

use fastrand::Rng;

use super::Check;
use crate::trend::{Point, grows, slope, svg};

pub const CHECKS: &[Check] = &[
    ("the slope of a line is the line's", line),
    ("growth that is over before the second half is none", warm_up),
    ("noise without growth is none", noise),
    ("growth in noise is found", growth_in_noise),
    ("too few samples say nothing", few),
    ("a plot has a line for each series", plot),
];

/// A sample each second, in which the value grows so much an hour from so many seconds on, with so much noise.
fn series(seconds: u32, per_hour: f64, noise: f64) -> Vec<Point> {
    let mut rng = Rng::with_seed(1);
    let at = |second: u32| {
        let noise = (rng.f64() - 0.5) * noise;
        (
            f64::from(second),
            1000.0 + f64::from(second) * per_hour / 3600.0 + noise,
        )
    };
    (0..seconds).map(at).collect()
}

fn line() {
    let slope = slope(&series(600, 90.0, 0.0)).unwrap();
    assert!((slope.per_hour - 90.0).abs() < 1e-6 && slope.error < 1e-6, "{slope:?}");
}

fn warm_up() {
    let samples: Vec<Point> = (0..600)
        .map(|second| (f64::from(second), f64::from(second.min(250))))
        .collect();
    assert!(!grows(&samples, 1.0));
}

fn noise() {
    assert!(!grows(&series(600, 0.0, 500.0), 100.0));
}

fn growth_in_noise() {
    assert!(grows(&series(600, 4000.0, 100.0), 1000.0));
    assert!(!grows(&series(600, 500.0, 100.0), 1000.0));
}

fn few() {
    assert_eq!(slope(&series(6, 90.0, 0.0)), None);
}

fn plot() {
    let samples = series(20, 90.0, 3.0);
    let text = svg(
        "soak",
        &[("daemon", &samples), ("launcher", &samples), ("nothing", &[])],
    );
    assert_eq!(text.matches("<polyline").count(), 2);
    assert!(text.starts_with("<svg") && text.ends_with("</svg>\n") && !text.contains("NaN"));
}

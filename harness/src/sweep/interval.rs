//! The confidence interval of a mean over few replications.

use keyquake_reports::record::{Lasting, Sample};

/// The 97.5 % quantiles of Student's t with 1 to 30 degrees of freedom.
const T: [f64; 30] = [
    12.706_205, 4.302_653, 3.182_446, 2.776_445, 2.570_582, 2.446_912, 2.364_624, 2.306_004, 2.262_157,
    2.228_139, 2.200_985, 2.178_813, 2.160_369, 2.144_787, 2.131_450, 2.119_905, 2.109_816, 2.100_922,
    2.093_024, 2.085_963, 2.079_614, 2.073_873, 2.068_658, 2.063_899, 2.059_539, 2.055_529, 2.051_831,
    2.048_407, 2.045_230, 2.042_272,
];
/// The same of the normal distribution.
const Z: f64 = 1.959_964;

/// The values of a metric that no replication can have below zero; `None` without any.
///
/// Its interval covers the true mean in 95 of 100 cases when the values are about normal. Values whose end was not seen
/// count as far as they were seen.
pub(super) fn sample(values: &[Lasting], less_is_worse: bool) -> Option<Sample> {
    let worse = if less_is_worse { f64::min } else { f64::max };
    let seconds = || values.iter().map(|value| value.seconds);
    let worst = seconds().reduce(worse)?;
    let count = values.len() as f64;
    let mean = seconds().sum::<f64>() / count;
    // A mean of equal numbers is that number, whatever a sum makes of it.
    let is_constant = seconds().all(|value| value == worst);
    let mean = if is_constant { worst } else { mean };
    let half = (values.len() > 1).then(|| {
        let squares: f64 = seconds().map(|value| (value - mean) * (value - mean)).sum();
        quantile(values.len() - 1) * libm::sqrt(squares / (count - 1.0) / count)
    });
    Some(Sample {
        mean,
        low: half.map(|half| (mean - half).max(0.0)),
        high: half.map(|half| mean + half),
        worst,
        replications: values.len() as u32,
        open: values.iter().filter(|value| value.at_least).count() as u32,
    })
}

/// The 97.5 % quantile of Student's t.
fn quantile(degrees: usize) -> f64 {
    if let Some(known) = degrees.checked_sub(1).and_then(|index| T.get(index)) {
        return *known;
    }
    // The first terms of its expansion (Abramowitz and Stegun 26.7.5): right to five figures from here on.
    let n = degrees as f64;
    let (z3, z5) = (Z * Z * Z, Z * Z * Z * Z * Z);
    Z + (z3 + Z) / (4.0 * n) + (5.0 * z5 + 16.0 * z3 + 3.0 * Z) / (96.0 * n * n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed;
    use rand::RngExt;

    fn seen(values: &[f64]) -> Vec<Lasting> {
        values.iter().map(|seconds| Lasting { seconds: *seconds, at_least: false }).collect()
    }

    #[test]
    fn an_interval_is_that_of_the_textbook() {
        // Mean 5, deviation 2 (n - 1), so half of 2.7764 * 2 / sqrt(5).
        let sample = sample(&seen(&[3.0, 3.0, 5.0, 7.0, 7.0]), false).unwrap();
        assert_eq!((sample.mean, sample.worst, sample.replications), (5.0, 7.0, 5));
        assert!((sample.high.unwrap() - 7.483_33).abs() < 1e-4, "{sample:?}");
        assert!((sample.low.unwrap() - 2.516_67).abs() < 1e-4, "{sample:?}");
    }

    #[test]
    fn one_value_has_no_interval_and_equal_ones_an_empty_one() {
        assert_eq!(sample(&[], false), None);
        let one = sample(&seen(&[0.1]), false).unwrap();
        assert_eq!((one.low, one.high), (None, None));
        let equal = sample(&seen(&[0.1; 7]), false).unwrap();
        assert_eq!((equal.mean, equal.low, equal.high), (0.1, Some(0.1), Some(0.1)));
    }

    #[test]
    fn the_worst_survival_is_the_shortest_and_what_is_open_is_counted() {
        let mut values = seen(&[3.0, 9.0]);
        values[1].at_least = true;
        let survival = sample(&values, true).unwrap();
        assert_eq!((survival.worst, survival.open), (3.0, 1));
    }

    #[test]
    fn the_quantile_goes_on_where_the_table_ends() {
        assert!((quantile(31) - 2.039_513).abs() < 2e-4, "{}", quantile(31));
        assert!((quantile(60) - 2.000_298).abs() < 5e-5, "{}", quantile(60));
        assert!((quantile(1_000) - 1.962_339).abs() < 1e-5, "{}", quantile(1_000));
        assert!(quantile(30) > quantile(31));
    }

    /// The means of uniform numbers of mean 50, with five of them each.
    #[test]
    fn it_covers_the_true_mean_as_often_as_it_says() {
        let mut draw = seed::generator(1, "intervals", 0);
        let trials = 4_000;
        let covers = (0..trials).filter(|_| {
            // Twelve uniform numbers are about normal.
            let values: Vec<f64> =
                (0..5).map(|_| 50.0 + (0..12).map(|_| draw.random::<f64>()).sum::<f64>() - 6.0).collect();
            let sample = sample(&seen(&values), false).unwrap();
            (sample.low.unwrap()..=sample.high.unwrap()).contains(&50.0)
        });
        let share = covers.count() as f64 / f64::from(trials);
        assert!((0.94..=0.96).contains(&share), "{share}");
    }
}

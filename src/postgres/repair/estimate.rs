//! What a repair and a new copy cost, before either is begun.

use crate::postgres::compare::Sample;
use serde::{Deserialize, Serialize};

/// A copy that was made before, as it was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Bytes of heap and TOAST on the source then.
    pub bytes: u64,
    /// Seconds from its begin until every index stood.
    pub seconds: f64,
}

/// Seconds that either way is expected to take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Estimate {
    /// Comparing everything. What differs and has to be written comes on top; nobody knows it yet.
    pub repair_seconds: f64,
    /// A new copy.
    pub copy_seconds: f64,
}

impl Estimate {
    /// From a copy that was measured and a sample of the comparison: a new copy takes longer as the source has grown
    /// since; a comparison reads every byte once with all jobs, and at worst (every table differs) once more with one.
    pub fn of(bytes: u64, copied: Measured, sample: Sample, jobs: usize) -> Self {
        let per_byte = |seconds: f64, bytes: u64| seconds / bytes.max(1) as f64;
        let reads = 1.0 / jobs.max(1) as f64 + 1.0;
        Self {
            repair_seconds: per_byte(sample.took.as_secs_f64(), sample.bytes) * bytes as f64 * reads,
            copy_seconds: per_byte(copied.seconds, copied.bytes) * bytes as f64,
        }
    }

    /// True when a repair promises to be the cheaper one.
    pub fn repair_is_cheaper(&self) -> bool {
        self.repair_seconds < self.copy_seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_source_that_has_grown_takes_longer_to_copy_and_to_compare() {
        let copied = Measured { bytes: 100 << 20, seconds: 10.0 };
        let sample = Sample { bytes: 10 << 20, took: Duration::from_millis(100) };
        let now = Estimate::of(300 << 20, copied, sample, 2);
        assert!((now.copy_seconds - 30.0).abs() < 1e-6 && (now.repair_seconds - 4.5).abs() < 1e-6, "{now:?}");
        assert!(now.repair_is_cheaper());
        let slow = Sample { bytes: 10 << 20, took: Duration::from_secs(1) };
        assert!(!Estimate::of(300 << 20, copied, slow, 2).repair_is_cheaper());
        assert!(Estimate::of(0, copied, Sample { bytes: 0, took: Duration::ZERO }, 2).copy_seconds.is_finite());
    }
}

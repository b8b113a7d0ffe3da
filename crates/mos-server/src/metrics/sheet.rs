//! Numbers that are read at one moment and written at once.

use prometheus::{CounterVec, GaugeVec, Opts, Registry, Result, TextEncoder};

/// Numbers of one moment.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    registry: Registry,
}

impl Sheet {
    /// Adds numbers that go up and down: the values of the labels, and the number.
    pub(super) fn gauge<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
        rows: impl IntoIterator<Item = ([String; N], f64)>,
    ) -> Result<()> {
        let gauge = GaugeVec::new(Opts::new(name, help), &labels)?;
        for (values, number) in rows {
            gauge.get_metric_with_label_values(&values)?.set(number);
        }
        self.registry.register(Box::new(gauge))
    }

    /// Adds numbers that only go up.
    pub(super) fn counter<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
        rows: impl IntoIterator<Item = ([String; N], f64)>,
    ) -> Result<()> {
        let counter = CounterVec::new(Opts::new(name, help), &labels)?;
        for (values, number) in rows {
            counter.get_metric_with_label_values(&values)?.inc_by(number.max(0.0));
        }
        self.registry.register(Box::new(counter))
    }

    /// Returns everything in the text format.
    pub(super) fn text(&self) -> Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_labels_cannot_break_out() {
        let sheet = Sheet::default();
        sheet.gauge("mos_plain", "Plain.", [], [([], 2.0)]).unwrap();
        sheet.counter("mos_named_total", "Named.", ["model"], [(["a\"} 7\nb".to_owned()], 3.0)]).unwrap();
        let text = sheet.text().unwrap();
        assert!(text.contains("mos_plain 2"), "{text}");
        assert!(text.contains(r#"mos_named_total{model="a\"} 7\nb"} 3"#), "{text}");
    }
}

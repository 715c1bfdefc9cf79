//! What is promised to a request: the time, by the first of four sources that speaks, and the accuracy.

use std::time::Duration;

/// A parameter of a request, whichever protocol carried it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Any number.
    Number(f64),
    /// A text.
    Text(String),
}

/// Parameter for the promised time, in milliseconds.
const SLA: &str = "splitplace_sla_ms";
/// Triton's parameter, in microseconds; 0 is none.
const TIMEOUT: &str = "timeout";
/// The one reserved parameter that stock clients send.
pub(super) const FINAL: &str = "triton_enable_empty_final_response";

/// Parameter for the least share of correct answers.
const MIN_ACCURACY: &str = "splitplace_min_accuracy";

/// The least accuracy that is asked for; 0 when nothing is said.
///
/// # Errors
/// Says what the parameter must be.
pub(super) fn min_accuracy(parameter: impl Fn(&str) -> Option<Value>) -> Result<f64, String> {
    let Some(value) = parameter(MIN_ACCURACY) else {
        return Ok(0.0);
    };
    let number = match &value {
        Value::Number(number) => Some(*number),
        Value::Int(0) => Some(0.0),
        Value::Int(1) => Some(1.0),
        Value::Text(text) => text.trim().parse::<f64>().ok(),
        Value::Int(_) | Value::Bool(_) => None,
    };
    number
        .filter(|number| (0.0..=1.0).contains(number))
        .ok_or_else(|| {
            format!(
                "parameter '{MIN_ACCURACY}' must be a share of correct answers between 0 and 1, as a \
                 double or a decimal string; got {value:?}"
            )
        })
}

/// The promised time by parameters, else by the call's own `deadline`; `None` leaves it to the package.
///
/// # Errors
/// Says which parameter cannot be used and what it must be.
pub(super) fn sla<'a>(
    parameter: impl Fn(&str) -> Option<Value>,
    mut names: impl Iterator<Item = &'a str>,
    deadline: Option<Duration>,
) -> Result<Option<Duration>, String> {
    if let Some(name) = names.find(|name| name.starts_with("triton_") && *name != FINAL) {
        return Err(format!(
            "parameter keys starting with 'triton_' are reserved: '{name}'"
        ));
    }
    let own = parameter(SLA)
        .map(|value| milliseconds(&value))
        .transpose()?;
    let timeout = parameter(TIMEOUT).map(|value| microseconds(&value));
    let timeout = timeout.transpose()?.flatten();
    Ok(own.or(timeout).or(deadline))
}

fn milliseconds(value: &Value) -> Result<Duration, String> {
    let number = match value {
        #[expect(
            clippy::cast_precision_loss,
            reason = "far beyond any time that is promised"
        )]
        Value::Int(number) => Some(*number as f64),
        Value::Number(number) => Some(*number),
        Value::Text(text) => text.trim().parse::<f64>().ok(),
        Value::Bool(_) => None,
    };
    number
        .filter(|number| *number > 0.0)
        .and_then(|number| Duration::try_from_secs_f64(number / 1e3).ok())
        .filter(|time| !time.is_zero())
        .ok_or_else(|| {
            format!(
                "parameter '{SLA}' must be a number of milliseconds above 0, as an integer, a \
                 double or a decimal string; got {value:?}"
            )
        })
}

fn microseconds(value: &Value) -> Result<Option<Duration>, String> {
    let Value::Int(number) = value else {
        return Err(format!(
            "parameter '{TIMEOUT}' has invalid type: expected int64_param, in microseconds"
        ));
    };
    match u64::try_from(*number) {
        Ok(0) => Ok(None),
        Ok(micros) => Ok(Some(Duration::from_micros(micros))),
        Err(_) => Err(format!(
            "parameter '{TIMEOUT}' must not be negative; got {number}"
        )),
    }
}

/// Reads a `grpc-timeout` header: at most eight digits and a unit.
pub(super) fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accuracy_is_a_share() {
        let of = |value: Value| min_accuracy(|_| Some(value.clone()));
        assert_eq!(min_accuracy(|_| None), Ok(0.0));
        assert_eq!(of(Value::Number(0.93)), Ok(0.93));
        assert_eq!(of(Value::Text(" 0.5 ".into())), Ok(0.5));
        for wrong in [
            Value::Number(93.0),
            Value::Int(2),
            Value::Bool(true),
            Value::Text("high".into()),
        ] {
            assert!(of(wrong).unwrap_err().contains("splitplace_min_accuracy"));
        }
    }

    fn of(parameters: &[(&str, Value)], deadline: Option<u64>) -> Result<Option<Duration>, String> {
        sla(
            |name| {
                let mut found = parameters.iter().filter(|(key, _)| *key == name);
                found.next().map(|(_, value)| value.clone())
            },
            parameters.iter().map(|(key, _)| *key),
            deadline.map(Duration::from_millis),
        )
    }

    #[test]
    fn the_first_source_that_speaks_counts() {
        let own = (SLA, Value::Int(30));
        let timeout = (TIMEOUT, Value::Int(20_000));
        let ms = |ms| Ok(Some(Duration::from_millis(ms)));
        assert_eq!(of(&[own.clone(), timeout.clone()], Some(10)), ms(30));
        assert_eq!(of(&[timeout], Some(10)), ms(20));
        assert_eq!(of(&[(TIMEOUT, Value::Int(0))], Some(10)), ms(10));
        assert_eq!(of(&[], Some(10)), ms(10));
        assert_eq!(of(&[], None), Ok(None));
    }

    #[test]
    fn milliseconds_come_in_three_types() {
        for value in [
            Value::Number(2.5),
            Value::Text("2.5".into()),
            Value::Text(" 2.5 ".into()),
        ] {
            let time = of(&[(SLA, value)], None);
            assert_eq!(time, Ok(Some(Duration::from_micros(2500))));
        }
        for wrong in [
            Value::Int(0),
            Value::Int(-1),
            Value::Bool(true),
            Value::Number(f64::NAN),
            Value::Number(f64::INFINITY),
            Value::Text("soon".into()),
            Value::Number(1e-9),
        ] {
            assert!(of(&[(SLA, wrong.clone())], None).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_timeout_is_an_integer_and_reserved_names_are_refused() {
        let text = of(&[(TIMEOUT, Value::Text("5".into()))], None);
        assert!(text.unwrap_err().contains("expected int64_param"));
        assert!(of(&[(TIMEOUT, Value::Int(-5))], None).is_err());
        assert!(of(&[("triton_x", Value::Bool(true))], None).is_err());
        assert!(of(&[(FINAL, Value::Bool(true))], None).is_ok());
    }

    #[test]
    fn grpc_timeouts_have_a_unit() {
        assert_eq!(grpc_timeout("20m"), Some(Duration::from_millis(20)));
        assert_eq!(grpc_timeout("7S"), Some(Duration::from_secs(7)));
        assert_eq!(
            grpc_timeout("99999999H").map(|d| d.as_secs() / 3600),
            Some(99_999_999)
        );
        for wrong in ["", "m", "20", "-1m", "123456789m", "1.5S", "7é"] {
            assert_eq!(grpc_timeout(wrong), None, "{wrong:?}");
        }
    }
}

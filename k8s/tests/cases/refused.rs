//! Specs that the definitions' rules refuse, with a word of what they say.

use serde_json::{Value, json};

pub(crate) fn by_rules() -> Vec<(Value, &'static str)> {
    let stored = json!({"stored": {}});
    vec![
        (json!({"source": {}}), "exactly one of"),
        (
            json!({"source": {"stored": {}, "hostPath": {"path": "/a"}}}),
            "exactly one of",
        ),
        (
            json!({"source": {"claim": {"name": "c", "path": "../../etc"}}}),
            "without ..",
        ),
        (json!({"source": {"hostPath": {"path": "a/b"}}}), "absolute"),
        (
            json!({"source": stored, "variants": ["chain", "chain"]}),
            "named twice",
        ),
        (
            json!({"source": stored, "exits": {"policy": "confidence"}}),
            "minConfidence",
        ),
        (
            json!({"source": stored, "exits": {"policy": "joint", "minConfidence": 0.5}}),
            "minConfidence",
        ),
        (
            json!({"source": stored, "exits": {"policy": "never", "lossTarget": 0.1}}),
            "goes with a controller",
        ),
        (
            json!({"source": stored, "exits": {"policy": "joint", "lossTarget": 1.0}}),
            "below 1",
        ),
        (
            json!({"source": stored, "placement": {"pin": [{"fragment": 1, "node": "a"}, {"fragment": 1, "node": "b"}]}}),
            "pinned twice",
        ),
    ]
}

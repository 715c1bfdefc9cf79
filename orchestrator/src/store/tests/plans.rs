//! Plans survive the disk schema unchanged, and hostile records are refused.

use std::time::Duration;

use proptest::{collection::vec, option, prelude::*};
use prost::Message as _;
use splitplace_codec::Codec;
use splitplace_plan::{ArmKind, ArmPlan, ExitRule, Hop, ModelPlan, Route, RouteId};
use splitplace_proto::store as wire;

use super::{super::convert, *};

fn duration() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_nanos)
}

fn hop() -> impl Strategy<Value = Hop> {
    (
        (
            "[a-z0-9-]{0,12}",
            any::<[u8; 32]>(),
            any::<(usize, usize)>(),
        ),
        (
            any::<(u64, u64)>(),
            duration(),
            vec("[a-zA-Z/_.0-9]{0,20}", 0..4),
        ),
        (
            prop_oneof![Just(1.0), 0.001..1.0f64],
            (0..Codec::all().count())
                .prop_map(|which| Codec::all().nth(which).unwrap_or(Codec::RAW)),
            duration(),
            vec(exit(), 0..3),
        ),
    )
        .prop_map(
            |(
                (node, fragment, (start, end)),
                ((memory_bytes, bytes_in), service, forward),
                (reach, codec, coding, exits),
            )| Hop {
                node: NodeId::new(&node),
                fragment: FragmentId(fragment),
                segments: start..end,
                memory_bytes,
                service,
                bytes_in,
                forward,
                reach,
                codec,
                coding,
                exits,
            },
        )
}

fn exit() -> impl Strategy<Value = ExitRule> {
    (any::<u32>(), "[a-z0-9]{0,6}", "[a-z0-9]{0,6}", 0.01f32..2.0).prop_map(
        |(number, name, output, threshold)| ExitRule {
            number,
            name,
            output,
            threshold,
        },
    )
}

fn arm() -> impl Strategy<Value = ArmPlan> {
    let kind = (0..ArmKind::ALL.len()).prop_map(|which| ArmKind::ALL[which]);
    let route = (any::<(u32, u64)>(), vec(hop(), 0..4)).prop_map(|((id, bytes_out), hops)| Route {
        id: RouteId(id),
        hops,
        bytes_out,
    });
    let names = ("\\PC{0,12}", "\\PC{0,12}");
    let numbers = (option::of(-1e9..1e9f64), duration());
    (names, kind, numbers, vec(route, 0..3)).prop_map(
        |((name, variant), kind, (accuracy, predicted), branches)| ArmPlan {
            name,
            variant,
            kind,
            accuracy,
            predicted,
            branches,
        },
    )
}

fn plans() -> impl Strategy<Value = Plan> {
    let model =
        ("[0-9]{0,4}", vec(arm(), 0..4)).prop_map(|(version, arms)| ModelPlan { version, arms });
    let models = proptest::collection::btree_map("[a-z]{1,6}", model, 0..4);
    (any::<(u64, Option<u64>)>(), models, "\\PC{0,40}").prop_map(
        |((generation, parent), models, explanation)| Plan {
            generation: Generation(generation),
            parent: parent.map(Generation),
            models: models
                .into_iter()
                .map(|(name, model)| (ModelName::new(&name), model))
                .collect(),
            explanation,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_comes_back_as_it_was(plan in plans()) {
        let bytes = convert::plan_to_wire(&plan).encode_to_vec();
        let back = convert::plan_from_wire(wire::Plan::decode(&bytes[..]).unwrap());
        prop_assert_eq!(back, Ok(plan));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(decoded) = wire::Plan::decode(&bytes[..]) {
            let _ = convert::plan_from_wire(decoded);
        }
    }
}

#[test]
fn a_plan_with_an_impossible_field_is_refused() {
    let arm = wire::ArmPlan {
        kind: 9,
        ..wire::ArmPlan::default()
    };
    let model = wire::ModelPlan {
        model: "m".into(),
        arms: vec![arm],
        ..wire::ModelPlan::default()
    };
    let bad_kind = wire::Plan {
        models: vec![model.clone()],
        ..wire::Plan::default()
    };
    let why = convert::plan_from_wire(bad_kind).unwrap_err().to_string();
    assert_eq!(why, "an arm has the kind 9");
    let empty = wire::ModelPlan {
        arms: vec![],
        ..model
    };
    let twice = wire::Plan {
        models: vec![empty.clone(), empty],
        ..wire::Plan::default()
    };
    let why = convert::plan_from_wire(twice).unwrap_err().to_string();
    assert_eq!(why, "a plan has twice the model m");
}

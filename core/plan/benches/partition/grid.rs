//! What choosing takes on InceptionV3 over uplinks and ratios of speed: median and largest, because one scene says
//! little of a search that prunes.

use std::time::Instant;

use splitplace_plan::partition::{
    Heavy, Light, Method, Network, Objective, Question, Scene, User, by_name,
};

use crate::nets;

/// Mbit/s, and device seconds over server seconds.
const UPLINKS: [f64; 13] = [
    0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0,
];
const RATIOS: [f64; 5] = [2.0, 5.0, 10.0, 20.0, 50.0];
/// Arrivals over the highest rate that any cut carries: one that can be kept, one that cannot.
const LOADS: [f64; 2] = [0.8, 1.5];
/// Answers of which the quickest counts.
const REPEATS: usize = 3;

/// A row: what it is called, and seconds in each cell.
pub(crate) type Row = (String, Vec<f64>);

/// Every method that looks further than one sum, in every cell.
pub(crate) fn rows() -> Vec<Row> {
    let exact = by_name("exact").expect("it is in the list");
    let heavy = Heavy::default();
    let asked: [(&str, &dyn Method, Want); 6] = [
        ("DADS, light load", &Light, Want::Latency),
        ("DADS, heavy load", &heavy, Want::Stage),
        ("exact", &*exact, Want::Latency),
        ("exact, busiest stage", &*exact, Want::Stage),
        ("exact, under load", &*exact, Want::Load(LOADS[0])),
        ("exact, under hopeless load", &*exact, Want::Load(LOADS[1])),
    ];
    let mut rows: Vec<Row> = asked
        .iter()
        .map(|(name, ..)| ((*name).to_owned(), Vec::new()))
        .collect();
    for ratio in RATIOS {
        let network = nets::inception(2, ratio);
        for uplink in UPLINKS {
            let scene = |objective| Scene {
                rate: uplink * 1e6 / 8.0,
                delay: 0.005,
                load: 1.0,
                objective,
            };
            let (_, stage) = took(&*exact, &network, scene(Objective::Bottleneck));
            for ((_, seconds), (_, method, want)) in rows.iter_mut().zip(&asked) {
                let objective = match want {
                    Want::Latency => Objective::Latency,
                    Want::Stage => Objective::Bottleneck,
                    Want::Load(load) => Objective::Loss {
                        arrivals: load / stage,
                        places: 10,
                        scv: 0.0,
                        most: 0.01,
                    },
                };
                let times = (0..REPEATS).map(|_| took(*method, &network, scene(objective)).0);
                seconds.push(times.fold(f64::INFINITY, f64::min));
            }
        }
    }
    for (_, seconds) in &mut rows {
        seconds.sort_by(f64::total_cmp);
    }
    rows
}

/// What is asked of a method.
#[derive(Clone, Copy)]
enum Want {
    Latency,
    Stage,
    /// Share of the highest rate.
    Load(f64),
}

/// Seconds of one answer, and of its busiest stage.
fn took(method: &dyn Method, network: &Network, scene: Scene) -> (f64, f64) {
    let question = Question {
        users: &[User::new(network, scene)],
        cores: 1,
    };
    let begin = Instant::now();
    let parts = method.solve(&question).expect("it can be parted");
    (begin.elapsed().as_secs_f64(), parts[0].bottleneck())
}

use super::*;
use crate::engine::cpu::Decoder;
use crate::engine::cpu::tests::{all_shapes, positions, rows, theta};
use crate::memory::Workload;
use crate::model::Precision;
use crate::rng::Key;
use crate::run::EngineKind;

impl Group {
    /// Elements that the forward keeps for the backward, as they are.
    fn kept(&self) -> usize {
        let of_norm = |kept: &Normalised| kept.hat.len() + kept.rate.len() + kept.out.len();
        let of_block = |a: &Activations| {
            let norms = of_norm(&a.ln_1) + of_norm(&a.ln_2);
            let norms = norms + a.qk_norms.iter().map(of_norm).sum::<usize>();
            let tensors = [&a.qkv, &a.unclipped, &a.max, &a.sum, &a.attended, &a.hidden, &a.slopes];
            let tensors = tensors.into_iter().chain(&a.given);
            norms + tensors.map(|tensor| tensor.len()).sum::<usize>()
        };
        let blocks: usize = self.activations.iter().map(of_block).sum();
        let inputs: usize = self.inputs.iter().map(|input| input.len()).sum();
        blocks + inputs + self.x.len() + of_norm(&self.ln_f)
    }
}

/// Activations are counted in `memory` as they are allocated here, to the element.
#[test]
fn what_is_kept_is_what_is_planned() {
    for (shape, i) in all_shapes().zip(0..) {
        let (theta, rows) = (theta(&shape, Key::new(i)), rows(&shape, 1, Key::new(100 + i)));
        for recompute in [false, true] {
            let mut decoder = Decoder::new(shape).unwrap().with_recompute(recompute);
            decoder.load(&theta);
            let mut gradient = vec![0.0; theta.len()];
            decoder.loss_and_gradient(&rows, positions(&rows).max(1), &mut gradient);
            let workload = Workload {
                shape,
                engine: EngineKind::Cpu,
                on_gpu: false,
                precision: Precision::F32,
                threads: 1,
                batch: 1,
            };
            let planned = rows[0].targets() as usize * workload.cpu_kept(recompute);
            assert_eq!(decoder.groups[0].kept(), planned, "{recompute} {shape:?}");
        }
    }
}

//! Losses of which a part of the targets counts.

use super::*;
use forgetting_laws::data::mask::Encoded;
use forgetting_laws::engine::losses;
use forgetting_laws::engine::torch::Windows;

/// The same tokens as [`sequences`], of which those count that `counts` says, by their place.
fn masked(seed: u64, count: u64, context: usize, counts: impl Fn(usize) -> bool) -> Sequences {
    let tokens = sequences(seed, count, context).stream().into_owned();
    let counted = Some((0..tokens.len()).map(counts).collect());
    Sequences::masked(Encoded { tokens, counted }, context).unwrap()
}

/// Irregular, and nothing in the sequences 0, 2, 5 and 6 of 8 tokens.
fn some(place: usize) -> bool {
    let sequence = place.saturating_sub(1) / 8;
    ![0, 2, 5, 6].contains(&sequence) && (place * place + place / 3) % 7 < 3
}

fn network() -> Network {
    Network::new(shape(), Key::new(0), Device::Cpu).unwrap()
}

/// Inputs and targets of rows, and whether each target counts, as f64.
fn tensors(set: &Sequences, rows: impl Iterator<Item = usize>) -> (Tensor, Tensor, Tensor) {
    let context = set.context() as i64;
    let windows_of: Vec<_> = rows.map(|i| set.window(i)).collect();
    let all =
        windows(&windows_of.iter().map(|w| &*w.tokens).collect::<Vec<_>>(), Device::Cpu).unwrap();
    let mask = |window: &forgetting_laws::data::sequences::Window<'_>| -> Vec<f64> {
        let all = vec![true; window.tokens.len() - 1];
        let counted = window.counted.as_ref().unwrap_or(&all);
        counted.iter().map(|&counts| f64::from(u8::from(counts))).collect()
    };
    let mask: Vec<f64> = windows_of.iter().flat_map(mask).collect();
    let mask = Tensor::from_slice(&mask).view([-1, context]);
    (all.narrow(1, 0, context), all.narrow(1, 1, context), mask)
}

#[test]
fn the_loss_is_the_mean_over_what_counts() {
    let (network, set) = (network(), masked(7, 700, 8, some));
    let (inputs, targets, mask) = tensors(&set, 0..700);
    let all = network.token_losses(&inputs, &targets).unwrap().to_kind(Kind::Double);
    let counted = mask.sum(Kind::Double).double_value(&[]);
    assert_eq!(counted, set.counted_tokens() as f64);
    let expected = (&all * &mask).sum(Kind::Double).double_value(&[]) / counted;
    assert_abs_diff_eq!(evaluate(&network, &set).unwrap(), expected, epsilon = 1e-9);
    assert!((expected - all.mean(Kind::Double).double_value(&[])).abs() > 1e-4);
    // One window by itself, and one of which nothing counts.
    let one = masked(7, 1, 8, |place| [2, 3, 7].contains(&place));
    let at = |t: i64| all.double_value(&[0, t - 1]);
    assert_abs_diff_eq!(
        evaluate(&network, &one).unwrap(),
        (at(2) + at(3) + at(7)) / 3.0,
        epsilon = 1e-6
    );
    assert!(evaluate(&network, &masked(7, 1, 8, |_| false)).unwrap().is_nan());
}

/// The loss of documents, window by window: as [`evaluate`]'s.
#[test]
fn documents_are_measured_where_they_count() {
    let (mut network, set) = (network(), masked(7, 5, 8, some));
    let tokens = set.stream().into_owned();
    let counted: Vec<bool> = (0..tokens.len()).map(some).collect();
    let whole = Encoded { tokens: tokens.clone(), counted: Some(counted) };
    let found = losses(&mut network, &[whole, Encoded::from(tokens)]).unwrap();
    let (inputs, targets, mask) = tensors(&set, 0..5);
    let all = network.token_losses(&inputs, &targets).unwrap().to_kind(Kind::Double);
    for row in 0..5 {
        let (all, mask) = (all.get(row), mask.get(row));
        let masked = found[0][row as usize];
        let expected = (&all * &mask).sum(Kind::Double).double_value(&[]);
        assert_abs_diff_eq!(masked.nats, expected, epsilon = 1e-6);
        assert_eq!(masked.tokens as f64, mask.sum(Kind::Double).double_value(&[]));
        assert_eq!(found[1][row as usize].tokens, 8);
    }
    assert!(found[0][0].mean().is_nan() && found[0][1].mean().is_finite());
}

/// A window's first k targets do not know of those behind them, so that the gradient for target k
/// alone is k times that of the mean over the first k, less k − 1 times that over the first k − 1:
/// these are the ones that PyTorch's are compared with. Their sum over what counts is the whole.
#[test]
fn the_gradient_is_that_of_the_masked_loss() {
    let set = masked(8, 12, 8, some);
    let mut network = network();
    let (inputs, targets, mask) = tensors(&set, 0..12);
    let (mask_f32, positions) = (mask.to_kind(Kind::Float), set.counted_tokens());
    // Twice half of it.
    let mut loss = 0.0;
    for _ in 0..2 {
        let (mask, twice) = (Some(&mask_f32), 2 * positions);
        let half = network.accumulate_masked_gradient(&inputs, &targets, mask, twice).unwrap();
        loss += half.double_value(&[]);
    }
    let found = values(network.gradient());
    assert_abs_diff_eq!(loss, evaluate(&network, &set).unwrap(), epsilon = F32);
    let counted = mask.sum(Kind::Double).double_value(&[]);
    let mut expected = vec![0f64; found.len()];
    for row in 0..12i64 {
        let sum_of_first = |network: &mut Network, k: i64| -> Vec<f64> {
            network.zero_gradient().unwrap();
            if k > 0 {
                let first = |x: &Tensor| x.narrow(0, row, 1).narrow(1, 0, k);
                let _ = network
                    .accumulate_gradient(&first(&inputs), &first(&targets), k as u64)
                    .unwrap();
            }
            let gradient = values(network.gradient());
            gradient.iter().map(|&g| k as f64 * f64::from(g)).collect()
        };
        for k in (1..=8).filter(|k| mask.double_value(&[row, k - 1]) > 0.0) {
            let with = sum_of_first(&mut network, k);
            let without = sum_of_first(&mut network, k - 1);
            for ((sum, with), without) in expected.iter_mut().zip(with).zip(without) {
                *sum += (with - without) / counted;
            }
        }
    }
    assert!(expected.iter().any(|g| g.abs() > 0.01));
    for (&found, &expected) in found.iter().zip(&expected) {
        assert_abs_diff_eq!(f64::from(found), expected, epsilon = F32);
    }
}

/// What does not count may be any token: neither loss nor gradient moves by a bit.
#[test]
fn what_does_not_count_teaches_nothing() {
    let tokens: Vec<u32> = (0..9).collect();
    let result = |last: u32| {
        let mut tokens = tokens.clone();
        tokens[8] = last;
        let counted = Some((0..9).map(|place| place != 8).collect());
        let set = Sequences::masked(Encoded { tokens, counted }, 8).unwrap();
        let mut network = network();
        let (inputs, targets, mask) = tensors(&set, 0..1);
        let mask = mask.to_kind(Kind::Float);
        let loss = network.accumulate_masked_gradient(&inputs, &targets, Some(&mask), 7).unwrap();
        (loss.double_value(&[]).to_bits(), values(network.gradient()))
    };
    assert_eq!(result(8), result(12));
}

/// However a step's windows are cut, each target that counts weighs the same.
#[test]
fn micro_batches_and_masks() {
    let set = masked(8, 12, 8, some);
    let rows: Vec<_> = (0..12).map(|i| set.window(i)).collect();
    let after = |size: usize| {
        let mut trainer = Trainer::new(network(), AdamW::default(), 1e9).unwrap();
        let parts = rows.chunks(size).map(|rows| Windows::of(rows, Device::Cpu));
        let step = Step { t: 1, lr: 1e-3, multiplier: 1.0 };
        let loss = trainer.step(parts, set.counted_tokens(), step, &Solo).unwrap();
        let loss = loss.double_value(&[]);
        (loss, values(trainer.network().gradient()))
    };
    let (loss, gradient) = after(12);
    for size in [6, 4, 1] {
        let (other, parts) = after(size);
        assert_abs_diff_eq!(other, loss, epsilon = F32);
        for (&part, &whole) in parts.iter().zip(&gradient) {
            assert_abs_diff_eq!(part, whole, epsilon = F32 as f32);
        }
    }
    // A mean of the micro-batches' own means would be another one: they count differently.
    let own = |i: usize| set.window(i).counted();
    assert!((1..12).any(|i| own(i) != own(0)));
}

/// A mask that leaves nothing out is no mask: the same bits.
#[test]
fn a_full_mask_moves_no_bit() {
    let spec = finetuning(&pretraining());
    let (_a, plain) = store();
    let (_b, full) = store();
    let expected = finetuned(&spec, &plain, &watch(0), NEVER).unwrap();
    let (pretraining, target) = data();
    let all = |seed, set: &Sequences| masked(seed, set.len() as u64, 8, |_| true);
    let target = TargetData {
        validation: all(4, &target.validation),
        training: all(5, &target.training),
        ..target
    };
    assert_eq!(target.training.hash(), data().1.training.hash());
    let record = finetuned_on(&spec, &full, &watch(0), NEVER, (pretraining, target)).unwrap();
    assert_same(&record, &expected);
}

fn answers() -> (PretrainData, TargetData) {
    let (pretraining, _) = data();
    (
        pretraining,
        TargetData {
            validation: masked(4, 20, 8, some),
            test: None,
            training: masked(5, 30, 8, some),
        },
    )
}

#[test]
fn masked_runs_resume_to_the_bit_and_are_counted() {
    let spec = finetuning(&pretraining());
    let (_a, whole) = store();
    let record = finetuned_on(&spec, &whole, &watch(0), NEVER, answers()).unwrap();
    let (_b, resumed) = store();
    let stopped = finetuned_on(&spec, &resumed, &watch(17), Duration::ZERO, answers());
    assert!(matches!(stopped, Err(Error::Interrupted)));
    let again = finetuned_on(&spec, &resumed, &watch(0), Duration::ZERO, answers()).unwrap();
    assert_same(&again, &record);
    // Lower on what is learnt, and another run than that of all tokens.
    let of = |record: &Record| record.evaluations.iter().map(|e| e.loss_ft).collect::<Vec<_>>();
    let (_c, plain) = store();
    assert_ne!(of(&record), of(&finetuned(&spec, &plain, &watch(0), NEVER).unwrap()));
    let last = record.evaluations.last().unwrap().loss_train.unwrap();
    assert!(last < record.evaluations[1].loss_train.unwrap(), "{last}");
    let r = &record.realised;
    let d_ft = answers().1.training.prefix(160).unwrap();
    assert_eq!((r.sequences, r.tokens, r.unique_tokens), (200, 1600, 160));
    assert_eq!(r.unique_counted_tokens, Some(d_ft.counted_tokens()));
    // Of 20 sequences 4 are never drawn, since nothing in them counts.
    let kept = (0..20).filter(|&i| d_ft.window(i).counted() > 0).count();
    assert_eq!(kept, 16);
    let drawn = 200 - r.injected_sequences;
    assert_eq!(r.epochs, drawn as f64 / kept as f64);
    // Injected sequences count everywhere; of the others the whole epochs are known.
    let counted = r.counted_tokens.unwrap() - r.injected_tokens;
    let epochs = drawn / kept as u64;
    let (least, most) = (epochs, epochs + 1);
    assert!((least * d_ft.counted_tokens()..most * d_ft.counted_tokens()).contains(&counted));
}

/// However a step's sequences are cut among ranks, each target that counts weighs the same: some ranks
/// have more of them than others.
#[test]
fn ranks_and_masks() {
    let spec = finetuning(&pretraining());
    let (_a, alone) = store();
    let alone = finetuned_on(&spec, &alone, &watch(0), NEVER, answers()).unwrap();
    for world in [2, 3] {
        let (_b, store) = store();
        let records = by_ranks_on(&spec, &store, world, 0, &watch(0), answers());
        assert_close(records[0].as_ref().unwrap(), &alone);
    }
}

#[test]
fn data_of_which_nothing_counts_are_refused_before_the_run() {
    let spec = finetuning(&pretraining());
    let (_a, store) = store();
    let refusal = |validation, training| {
        let target = TargetData { validation, test: None, training };
        let found = finetuned_on(&spec, &store, &watch(0), NEVER, (data().0, target));
        found.unwrap_err().to_string()
    };
    let (none, good) =
        (|seed, n| masked(seed, n, 8, |_| false), |seed, n| masked(seed, n, 8, some));
    let message = refusal(none(4, 20), good(5, 30));
    assert!(message.starts_with("tokens of the target's validation set = 160:"), "{message}");
    let message = refusal(good(4, 20), none(5, 30));
    assert!(message.starts_with("tokens of D_ft = 160:") && message.contains("data.loss"));
    // D_ft ends before anything counts.
    let late = masked(5, 30, 8, |place| place > 160);
    let message = refusal(good(4, 20), late);
    assert!(message.contains("ask for more tokens"), "{message}");
}

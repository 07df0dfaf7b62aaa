//! How far a PyTorch user's training has come: what its counts of epochs and steps mean.

use super::pieces::{Piece, Pieces};
use crate::optim::Per;
use crate::train::Position;

/// What is known besides the file's own `epoch`.
pub(super) struct Hints {
    /// How often the schedule was stepped, if the file's scheduler is the recipe's.
    pub(super) schedule: Option<u64>,
    /// How often another schedule was stepped.
    pub(super) other_schedule: Option<u64>,
    /// When the recipe steps its schedule.
    pub(super) per: Per,
    /// The largest count of updates in the optimizer's state.
    pub(super) updates: Option<u64>,
    /// Batches of an epoch of the recipe's data.
    pub(super) batches: Option<u64>,
}

/// The position, and how it was found, in a sentence.
///
/// `epoch` is the number of epochs done in files that follow PyTorch's examples (`'epoch': epoch + 1`), and the number of the last one,
/// from 0, in others. A count of steps that is a whole number of epochs, or else the schedule's count, tells which; without them
/// PyTorch's examples are followed, and for Lightning's files Lightning.
pub(super) fn position(pieces: &Pieces<'_>, hints: &Hints) -> (Position, String) {
    let schedule_steps = hints.schedule.filter(|_| hints.per == Per::Step);
    let (steps, counted) = match (&pieces.step, schedule_steps, hints.updates) {
        (Some(Piece { key, value }), ..) => (Some(*value), format!("'{key}'")),
        (None, Some(count), _) => (Some(count), "the scheduler".to_string()),
        (None, None, Some(updates)) => (Some(updates), "the optimizer".to_string()),
        (None, None, None) => (None, String::new()),
    };
    let batches = hints.batches.filter(|&batches| batches > 0);
    let (epochs, how) = epochs(pieces, hints, steps, batches, &counted);
    let step = steps.or_else(|| epochs.checked_mul(batches?)).unwrap_or(epochs);
    let batch = pieces.batch.as_ref().map_or(0, |batch| batch.value);
    let whole = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    (Position { step, epoch: whole(epochs), batch: whole(batch), lowered: 0 }, how)
}

fn epochs(
    pieces: &Pieces<'_>,
    hints: &Hints,
    steps: Option<u64>,
    batches: Option<u64>,
    counted: &str,
) -> (u64, String) {
    let done =
        |epochs: u64| if epochs == 1 { "1 epoch is done".to_string() } else { format!("{epochs} epochs are done") };
    let Some(Piece { key, value: epoch }) = &pieces.epoch else {
        return match (steps, batches) {
            (Some(steps), Some(batches)) => {
                let epochs = steps / batches;
                (
                    epochs,
                    format!(
                        "{}: {counted} counts {steps} steps, {batches} to an epoch of the recipe's data",
                        done(epochs)
                    ),
                )
            }
            (Some(steps), None) => {
                (0, format!("the file counts no epochs, only {steps} steps: training starts with epoch 1"))
            }
            (None, _) => (0, "the file counts neither epochs nor steps: training starts with epoch 1".to_string()),
        };
    };
    let (epoch, next) = (*epoch, epoch.saturating_add(1));
    if let Some(Piece { value: batch, .. }) = pieces.batch.as_ref().filter(|batch| batch.value > 0) {
        return (epoch, format!("{} and {batch} batches of the next: '{key}' and 'batch' count them", done(epoch)));
    }
    if pieces.batch.is_some() {
        return (epoch, format!("{}: '{key}' counts them", done(epoch)));
    }
    for epochs in [epoch, next] {
        if let (Some(steps), Some(batches)) = (steps, batches)
            && epochs.checked_mul(batches) == Some(steps)
        {
            return (
                epochs,
                format!(
                    "{}: '{key}' is {epoch}, and {counted} counts {steps} steps of {batches} to an epoch",
                    done(epochs)
                ),
            );
        }
    }
    let stepped = hints.schedule.filter(|_| hints.per == Per::Epoch).or(hints.other_schedule);
    if let Some(count) = stepped.filter(|count| (epoch..=next).contains(count)) {
        return (count, format!("{}: '{key}' is {epoch}, and the scheduler counts {count}", done(count)));
    }
    if pieces.lightning {
        let under_way = steps.zip(batches).is_some_and(|(steps, batches)| steps < next.saturating_mul(batches));
        return match under_way {
            true => (epoch, format!("{}: Lightning stopped within epoch {next}, which starts again", done(epoch))),
            false => (next, format!("{}: Lightning numbers epochs from 0, and '{key}' is {epoch}", done(next))),
        };
    }
    (epoch, format!("{}: '{key}' is taken as their number, as PyTorch's examples save it (epoch + 1)", done(epoch)))
}

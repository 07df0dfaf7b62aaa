//! Decision trees in flat lists, checked once when a graph is loaded and walked without allocating.

use super::Rows;
use crate::{Array, Error, Result};

/// How a node compares a feature.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Mode {
    Leq,
    Lt,
    Gte,
    Gt,
    Eq,
    Neq,
    Member,
}

/// Where a walk goes on: at a branch, or, as the complement of its number, at a leaf.
#[derive(Clone, Copy)]
pub(super) struct Step(i32);

impl Step {
    /// The branch of this number.
    ///
    /// # Errors
    /// When there cannot be so many.
    pub fn branch(number: usize) -> Result<Self> {
        i32::try_from(number).map(Self).map_err(|_| Error::invalid(format!("a tree has no node {number}")))
    }

    /// The leaf of this number.
    ///
    /// # Errors
    /// When there cannot be so many.
    pub fn leaf(number: usize) -> Result<Self> {
        Self::branch(number).map(|step| Self(!step.0))
    }

    /// The number of a branch, or else that of a leaf.
    pub fn at(self) -> std::result::Result<usize, usize> {
        if self.0 >= 0 { Ok(self.0 as usize) } else { Err(!self.0 as usize) }
    }
}

/// A node that compares a feature.
pub(super) struct Branch {
    pub mode: Mode,
    pub feature: u32,
    pub split: f64,
    /// The set that [`Mode::Member`] looks a feature up in.
    pub members: u32,
    pub missing_is_true: bool,
    pub yes: Step,
    pub no: Step,
}

/// How the votes for a target become its score.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Aggregate {
    Average,
    Sum,
    Min,
    Max,
}

/// What a leaf adds to a target.
pub(super) type Vote = (usize, f64);

/// Trees: where each begins, their branches, and the votes of each leaf, which lie one after the other.
pub(super) struct Forest {
    roots: Vec<Step>,
    branches: Vec<Branch>,
    members: Vec<Vec<f64>>,
    /// The first vote of each leaf, and the end of the last one's.
    starts: Vec<usize>,
    votes: Vec<Vote>,
}

impl Forest {
    /// Trees with votes for targets `0..targets`; `members` are the sets that branches look features up in.
    ///
    /// # Errors
    /// When a node leads to one that is not there or back to itself, or a vote is for a target past the last.
    pub fn new(
        roots: Vec<Step>,
        branches: Vec<Branch>,
        members: Vec<Vec<f64>>,
        leaves: impl IntoIterator<Item = Vec<Vote>>,
        targets: usize,
    ) -> Result<Self> {
        let (mut starts, mut votes) = (vec![0], Vec::new());
        for leaf in leaves {
            votes.extend(leaf);
            starts.push(votes.len());
        }
        let there = |step: &Step| match step.at() {
            Ok(branch) => branch < branches.len(),
            Err(leaf) => leaf + 1 < starts.len(),
        };
        if !branches.iter().flat_map(|branch| [&branch.yes, &branch.no]).chain(&roots).all(there) {
            return Err(Error::invalid("a tree has a branch to a node that is not there"));
        }
        if votes.iter().any(|(target, _)| *target >= targets) {
            return Err(Error::invalid(format!("a leaf is for a target past the {targets} that there are")));
        }
        if cyclic(&roots, &branches) {
            return Err(Error::invalid("a tree is cyclic"));
        }
        Ok(Self { roots, branches, members, starts, votes })
    }

    /// Observations that have all features that the nodes compare.
    pub fn rows(&self, x: &Array) -> Result<Rows> {
        let rows = Rows::new(x)?;
        match self.branches.iter().map(|branch| branch.feature as usize).max() {
            Some(last) if last >= rows.columns => {
                Err(Error::invalid(format!("a tree asks for feature {last} of {}", rows.columns)))
            }
            _ => Ok(rows),
        }
    }

    fn next(&self, branch: &Branch, row: &[f64]) -> Step {
        let value = row[branch.feature as usize];
        let holds = match branch.mode {
            Mode::Leq => value <= branch.split,
            Mode::Lt => value < branch.split,
            Mode::Gte => value >= branch.split,
            Mode::Gt => value > branch.split,
            Mode::Eq => value == branch.split,
            Mode::Neq => value != branch.split && !value.is_nan(),
            Mode::Member => self.members[branch.members as usize].contains(&value),
        };
        if holds || branch.missing_is_true && value.is_nan() { branch.yes } else { branch.no }
    }

    /// The votes of the leaves that an observation ends in, tree by tree.
    pub fn votes(&self, row: &[f64]) -> impl Iterator<Item = &Vote> {
        self.roots.iter().flat_map(move |root| {
            let mut step = *root;
            loop {
                match step.at() {
                    Ok(branch) => step = self.next(&self.branches[branch], row),
                    Err(leaf) => return &self.votes[self.starts[leaf]..self.starts[leaf + 1]],
                }
            }
        })
    }

    /// The targets of an observation; those that no leaf speaks of are 0.
    pub fn aggregate(&self, row: &[f64], scores: &mut [f64], how: Aggregate) {
        // NaN: no vote so far.
        scores.fill(f64::NAN);
        for &(target, weight) in self.votes(row) {
            let score = &mut scores[target];
            *score = match how {
                _ if score.is_nan() => weight,
                Aggregate::Average | Aggregate::Sum => *score + weight,
                Aggregate::Min => score.min(weight),
                Aggregate::Max => score.max(weight),
            };
        }
        let share = if how == Aggregate::Average { self.roots.len().max(1) as f64 } else { 1.0 };
        for score in scores {
            *score = if score.is_nan() { 0.0 } else { *score / share };
        }
    }
}

/// Whether a walk from a root can come back to where it was.
fn cyclic(roots: &[Step], branches: &[Branch]) -> bool {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        Never,
        /// On the path from the root to the node that is looked at.
        OnPath,
        Whole,
    }
    let mut seen = vec![Seen::Never; branches.len()];
    let mut path: Vec<usize> = Vec::new();
    for root in roots.iter().filter_map(|root| root.at().ok()) {
        path.push(root);
        while let Some(&branch) = path.last() {
            if seen[branch] != Seen::Never {
                seen[branch] = Seen::Whole;
                path.pop();
                continue;
            }
            seen[branch] = Seen::OnPath;
            for next in [branches[branch].yes, branches[branch].no].iter().filter_map(|step| step.at().ok()) {
                match seen[next] {
                    Seen::OnPath => return true,
                    Seen::Never => path.push(next),
                    Seen::Whole => {}
                }
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch(yes: Step, no: Step) -> Branch {
        Branch { mode: Mode::Leq, feature: 0, split: 0.0, members: 0, missing_is_true: false, yes, no }
    }

    fn forest(edges: &[[i32; 2]]) -> Result<Forest> {
        let branches = edges.iter().map(|&[yes, no]| branch(Step(yes), Step(no))).collect();
        Forest::new(vec![Step(0)], branches, Vec::new(), vec![vec![(0, 1.0)], vec![(0, 2.0)]], 1)
    }

    #[test]
    fn a_walk_that_comes_back_is_refused() {
        assert!(forest(&[[-1, -2]]).is_ok());
        // A node that two others lead to, both of them on one path.
        assert!(forest(&[[1, 2], [2, -1], [-1, -2]]).is_ok());
        assert!(forest(&[[2, 1], [2, -1], [-1, -2]]).is_ok());
        for edges in [vec![[0, -1]], vec![[1, -1], [-2, 0]], vec![[1, 2], [-1, 2], [-1, 1]]] {
            assert!(matches!(forest(&edges), Err(error) if error.to_string().contains("cyclic")), "{edges:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_refused() {
        assert!(forest(&[[1, -1]]).is_err());
        assert!(forest(&[[-3, -1]]).is_err());
        assert!(Forest::new(vec![Step(-1)], Vec::new(), Vec::new(), vec![vec![(1, 1.0)]], 1).is_err());
    }
}

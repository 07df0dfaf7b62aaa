//! Ensembles of decision trees.

use crate::operator::{Entry, Parsed, RawNode, Schema, eval};
use std::collections::HashMap;

use super::scores::{Binary, Labels, Transform, classified, greatest};
use super::{Rows, one, sizes};
use crate::array::count;
use crate::{Array, Error, Result};

pub(in crate::ops) const OPERATORS: &[Entry] = &[
    Entry::new(
        Schema::of("ai.onnx.ml", "TreeEnsemble", &[5], (1, 1)).attributes(&[
            "aggregate_function",
            "!leaf_targetids",
            "!leaf_weights",
            "membership_values",
            "n_targets",
            "!nodes_falseleafs",
            "!nodes_falsenodeids",
            "!nodes_featureids",
            "nodes_hitrates",
            "nodes_missing_value_tracks_true",
            "!nodes_modes",
            "!nodes_splits",
            "!nodes_trueleafs",
            "!nodes_truenodeids",
            "post_transform",
            "!tree_roots",
        ]),
        ensemble,
    ),
    Entry::new(
        Schema::of("ai.onnx.ml", "TreeEnsembleRegressor", &[1, 3, 5], (1, 1)).attributes(&[
            "aggregate_function",
            "base_values",
            "base_values_as_tensor@3",
            "n_targets",
            "nodes_falsenodeids",
            "nodes_featureids",
            "nodes_hitrates",
            "nodes_hitrates_as_tensor@3",
            "nodes_missing_value_tracks_true",
            "nodes_modes",
            "nodes_nodeids",
            "nodes_treeids",
            "nodes_truenodeids",
            "nodes_values",
            "nodes_values_as_tensor@3",
            "post_transform",
            "target_ids",
            "target_nodeids",
            "target_treeids",
            "target_weights",
            "target_weights_as_tensor@3",
        ]),
        regress,
    ),
    Entry::new(
        Schema::of("ai.onnx.ml", "TreeEnsembleClassifier", &[1, 3, 5], (1, 1)).attributes(&[
            "base_values",
            "base_values_as_tensor@3",
            "class_ids",
            "class_nodeids",
            "class_treeids",
            "class_weights",
            "class_weights_as_tensor@3",
            "classlabels_int64s",
            "classlabels_strings",
            "nodes_falsenodeids",
            "nodes_featureids",
            "nodes_hitrates",
            "nodes_hitrates_as_tensor@3",
            "nodes_missing_value_tracks_true",
            "nodes_modes",
            "nodes_nodeids",
            "nodes_treeids",
            "nodes_truenodeids",
            "nodes_values",
            "nodes_values_as_tensor@3",
            "post_transform",
        ]),
        classify,
    ),
];

/// How a node compares a feature.
#[derive(Clone, Copy)]
enum Mode {
    Leq,
    Lt,
    Gte,
    Gt,
    Eq,
    Neq,
    Member,
}

/// Where a walk goes on.
#[derive(Clone, Copy)]
enum Step {
    Branch(usize),
    Leaf(usize),
}

struct Branch {
    mode: Mode,
    feature: usize,
    split: f64,
    members: Vec<f64>,
    missing_is_true: bool,
    yes: Step,
    no: Step,
}

impl Branch {
    fn next(&self, row: &[f64]) -> Step {
        let value = row[self.feature];
        let holds = match self.mode {
            Mode::Leq => value <= self.split,
            Mode::Lt => value < self.split,
            Mode::Gte => value >= self.split,
            Mode::Gt => value > self.split,
            Mode::Eq => value == self.split,
            Mode::Neq => value != self.split && !value.is_nan(),
            Mode::Member => self.members.contains(&value),
        };
        if holds || value.is_nan() && self.missing_is_true { self.yes } else { self.no }
    }
}

/// Trees: where each begins, their branches, and what each leaf adds to which targets.
struct Forest {
    roots: Vec<Step>,
    branches: Vec<Branch>,
    leaves: Vec<Vec<(usize, f64)>>,
}

impl Forest {
    /// Every target and every other node that the nodes refer to is there.
    fn check(self, targets: usize) -> Result<Self> {
        let there = |step: &Step| match *step {
            Step::Branch(node) => node < self.branches.len(),
            Step::Leaf(leaf) => leaf < self.leaves.len(),
        };
        let steps = self.branches.iter().flat_map(|branch| [&branch.yes, &branch.no]).chain(&self.roots);
        if !steps.into_iter().all(there) {
            return Err(Error::invalid("a tree has a branch to a node that is not there"));
        }
        if self.leaves.iter().flatten().any(|(target, _)| *target >= targets) {
            return Err(Error::invalid(format!("a leaf is for a target past the {targets} that there are")));
        }
        Ok(self)
    }

    /// Observations that have all features that the nodes compare.
    fn rows(&self, x: &Array) -> Result<Rows> {
        let rows = Rows::new(x)?;
        match self.branches.iter().map(|branch| branch.feature).max() {
            Some(last) if last >= rows.columns => {
                Err(Error::invalid(format!("a tree asks for feature {last} of {}", rows.columns)))
            }
            _ => Ok(rows),
        }
    }

    /// What the leaves that an observation ends in add to targets.
    fn votes(&self, row: &[f64]) -> Result<Vec<(usize, f64)>> {
        let mut votes = Vec::new();
        for root in &self.roots {
            let mut step = *root;
            // A walk longer than there are branches goes in a circle.
            let mut left = self.branches.len();
            while let Step::Branch(branch) = step {
                left = left.checked_sub(1).ok_or_else(|| Error::invalid("a tree is cyclic"))?;
                step = self.branches[branch].next(row);
            }
            if let Step::Leaf(leaf) = step {
                votes.extend(&self.leaves[leaf]);
            }
        }
        Ok(votes)
    }

    /// The targets of an observation; those that no leaf speaks of are 0.
    fn aggregate(&self, row: &[f64], targets: usize, how: Aggregate) -> Result<Vec<f64>> {
        let mut sums = vec![None; targets];
        for (target, weight) in self.votes(row)? {
            let slot = &mut sums[target];
            *slot = Some(match (how, *slot) {
                (_, None) => weight,
                (Aggregate::Min, Some(sum)) => weight.min(sum),
                (Aggregate::Max, Some(sum)) => weight.max(sum),
                (_, Some(sum)) => sum + weight,
            });
        }
        let share = if how == Aggregate::Average { self.roots.len().max(1) as f64 } else { 1.0 };
        Ok(sums.into_iter().map(|sum| sum.unwrap_or(0.0) / share).collect())
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Aggregate {
    Average,
    Sum,
    Min,
    Max,
}

fn misfit(what: &str) -> Error {
    Error::invalid(format!("its {what} do not fit its nodes"))
}

/// Version 5: branches and leaves are kept apart.
fn ensemble(node: &RawNode) -> Parsed {
    let attributes = &node.attributes;
    let targets = sizes(&[attributes.int_or("n_targets", 1)?])?[0];
    let how = match attributes.int_or("aggregate_function", 1)? {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        other => return Err(Error::invalid(format!("aggregate_function is {other}, which is unknown"))),
    };
    let transform = match attributes.int_or("post_transform", 0)? {
        0 => Transform::None,
        1 => Transform::Softmax,
        2 => Transform::Logistic,
        3 => Transform::SoftmaxZero,
        4 => Transform::Probit,
        other => return Err(Error::invalid(format!("post_transform is {other}, which is unknown"))),
    };
    let forest = forest_of_leaves(node)?.check(targets)?;
    eval(move |inputs| {
        let x = inputs.array(0)?;
        let rows = forest.rows(x)?;
        let mut values = Vec::with_capacity(count(&[rows.rows, targets])?);
        for row in rows.iter() {
            let mut scores = forest.aggregate(row, targets, how)?;
            transform.apply(&mut scores);
            values.extend(scores);
        }
        one(Array::of_floats(x.dtype(), vec![rows.rows, targets], values)?)
    })
}

fn forest_of_leaves(node: &RawNode) -> Result<Forest> {
    let attributes = &node.attributes;
    let list = |name: &str| sizes(attributes.ints(name)?.unwrap_or_default());
    let floats = |name: &str| attributes.array(name)?.map_or_else(|| Ok(Vec::new()), Array::floats);
    let (splits, features) = (floats("nodes_splits")?, list("nodes_featureids")?);
    let modes = attributes.array("nodes_modes")?.map_or_else(|| Ok(Vec::new()), Array::ints)?;
    let (yes, yes_leaf) = (list("nodes_truenodeids")?, list("nodes_trueleafs")?);
    let (no, no_leaf) = (list("nodes_falsenodeids")?, list("nodes_falseleafs")?);
    let missing = list("nodes_missing_value_tracks_true")?;
    let (targets, weights) = (list("leaf_targetids")?, floats("leaf_weights")?);
    let nodes = modes.len();
    if [splits.len(), features.len(), yes.len(), yes_leaf.len(), no.len(), no_leaf.len()] != [nodes; 6]
        || targets.len() != weights.len()
    {
        return Err(misfit("lists of nodes"));
    }
    // The members of each set, in the order of the nodes that test one: NaN ends a set.
    let members = floats("membership_values")?;
    let mut sets = members.split(|member| member.is_nan());
    let mut branches = Vec::with_capacity(nodes);
    for i in 0..nodes {
        let mode = match modes[i] {
            0 => Mode::Leq,
            1 => Mode::Lt,
            2 => Mode::Gte,
            3 => Mode::Gt,
            4 => Mode::Eq,
            5 => Mode::Neq,
            6 => Mode::Member,
            other => return Err(Error::invalid(format!("a node compares in the unknown way {other}"))),
        };
        let members = if matches!(mode, Mode::Member) {
            sets.next().ok_or_else(|| misfit("membership_values"))?.to_vec()
        } else {
            Vec::new()
        };
        let step = |at: usize, is_leaf: usize| if is_leaf != 0 { Step::Leaf(at) } else { Step::Branch(at) };
        branches.push(Branch {
            mode,
            feature: features[i],
            split: splits[i],
            members,
            missing_is_true: missing.get(i).is_some_and(|&missing| missing != 0),
            yes: step(yes[i], yes_leaf[i]),
            no: step(no[i], no_leaf[i]),
        });
    }
    let roots = list("tree_roots")?.into_iter().map(Step::Branch).collect();
    Ok(Forest { roots, branches, leaves: targets.into_iter().zip(weights).map(|vote| vec![vote]).collect() })
}

/// Versions 1 to 3: a leaf is a node; votes (of `class` or `target`) name their node.
fn forest_of_nodes(node: &RawNode, votes: &str, ids: &str) -> Result<Forest> {
    let attributes = &node.attributes;
    let list = |name: &str| Ok::<_, Error>(attributes.ints(name)?.unwrap_or_default());
    let (trees, numbers) = (list("nodes_treeids")?, list("nodes_nodeids")?);
    let (yes, no, missing) =
        (list("nodes_truenodeids")?, list("nodes_falsenodeids")?, list("nodes_missing_value_tracks_true")?);
    let features = sizes(list("nodes_featureids")?)?;
    let modes = attributes.texts("nodes_modes")?.unwrap_or_default();
    let splits = numbers_of(node, "nodes_values")?;
    let nodes = trees.len();
    if [numbers.len(), yes.len(), no.len(), features.len(), modes.len(), splits.len()] != [nodes; 6] {
        return Err(misfit("lists of nodes"));
    }
    let (vote_trees, vote_nodes) = (list(&format!("{votes}_treeids"))?, list(&format!("{votes}_nodeids"))?);
    let (targets, weights) = (sizes(list(ids)?)?, numbers_of(node, &format!("{votes}_weights"))?);
    if [vote_nodes.len(), targets.len(), weights.len()] != [vote_trees.len(); 3] {
        return Err(misfit("votes"));
    }
    // Branches and leaves are numbered apart.
    let (mut steps, mut leaves, mut count) = (HashMap::new(), Vec::new(), 0);
    for i in 0..nodes {
        let step = if modes[i] == "LEAF" {
            leaves.push(Vec::new());
            Step::Leaf(leaves.len() - 1)
        } else {
            count += 1;
            Step::Branch(count - 1)
        };
        steps.insert((trees[i], numbers[i]), step);
    }
    for i in 0..vote_trees.len() {
        if let Some(Step::Leaf(leaf)) = steps.get(&(vote_trees[i], vote_nodes[i])) {
            leaves[*leaf].push((targets[i], weights[i]));
        }
    }
    let (mut roots, mut seen, mut branches) = (Vec::new(), std::collections::HashSet::new(), Vec::new());
    for i in 0..nodes {
        let step = |number: i64| steps.get(&(trees[i], number)).copied().ok_or_else(|| misfit("branches"));
        if seen.insert(trees[i]) {
            roots.push(step(numbers[i])?);
        }
        let mode = match modes[i].as_str() {
            "LEAF" => continue,
            "BRANCH_LEQ" => Mode::Leq,
            "BRANCH_LT" => Mode::Lt,
            "BRANCH_GTE" => Mode::Gte,
            "BRANCH_GT" => Mode::Gt,
            "BRANCH_EQ" => Mode::Eq,
            "BRANCH_NEQ" => Mode::Neq,
            other => return Err(Error::invalid(format!("a node compares in the unknown way '{other}'"))),
        };
        branches.push(Branch {
            mode,
            feature: features[i],
            split: splits[i],
            members: Vec::new(),
            missing_is_true: missing.get(i).is_some_and(|&missing| missing != 0),
            yes: step(yes[i])?,
            no: step(no[i])?,
        });
    }
    Ok(Forest { roots, branches, leaves })
}

/// Numbers that are an attribute of floats, or a tensor under the same name with an ending.
fn numbers_of(node: &RawNode, name: &str) -> Result<Vec<f64>> {
    match node.attributes.array(&format!("{name}_as_tensor"))? {
        Some(tensor) => tensor.floats(),
        None => Ok(node.attributes.floats(name)?.unwrap_or_default().iter().map(|&value| f64::from(value)).collect()),
    }
}

fn regress(node: &RawNode) -> Parsed {
    let targets = sizes(&[node.attributes.int_or("n_targets", 1)?])?[0];
    let how = match node.attributes.text_or("aggregate_function", "SUM")? {
        "AVERAGE" => Aggregate::Average,
        "SUM" => Aggregate::Sum,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => return Err(Error::invalid(format!("aggregate_function is '{other}', not AVERAGE, SUM, MIN or MAX"))),
    };
    let transform = Transform::of(node)?;
    let base = numbers_of(node, "base_values")?;
    let forest = forest_of_nodes(node, "target", "target_ids")?.check(targets)?;
    eval(move |inputs| {
        let rows = forest.rows(inputs.array(0)?)?;
        let mut values = Vec::with_capacity(count(&[rows.rows, targets])?);
        for row in rows.iter() {
            let mut scores = forest.aggregate(row, targets, how)?;
            scores.iter_mut().zip(&base).for_each(|(score, base)| *score += base);
            transform.apply(&mut scores);
            values.extend(scores.into_iter().map(|score| score as f32));
        }
        one(Array::new(vec![rows.rows, targets], values)?)
    })
}

/// Two classes of which all votes are for one are decided by a single score.
fn classify(node: &RawNode) -> Parsed {
    let labels = Labels::of(node, "classlabels_int64s", "classlabels_strings")?;
    let transform = Transform::of(node)?;
    let base = numbers_of(node, "base_values")?;
    let classes = labels.len();
    let forest = forest_of_nodes(node, "class", "class_ids")?.check(classes)?;
    let voted = node.attributes.ints("class_ids")?.unwrap_or_default();
    let binary = classes <= 2 && voted.windows(2).all(|pair| pair[0] == pair[1]);
    let weights: Vec<f32> = numbers_of(node, "class_weights")?.into_iter().map(|weight| weight as f32).collect();
    let kind = Binary::of_weights(&weights);
    eval(move |inputs| {
        let rows = forest.rows(inputs.array(0)?)?;
        count(&[rows.rows, classes])?;
        let (mut chosen, mut all) = (Vec::new(), Vec::new());
        for row in rows.iter() {
            if binary {
                let votes = forest.votes(row)?;
                let score = votes.iter().map(|(_, weight)| weight).sum::<f64>() + base.last().unwrap_or(&0.0);
                let (class, scores) = kind.decide(score, transform);
                chosen.push(class);
                all.push(scores);
            } else {
                let mut scores = forest.aggregate(row, classes, Aggregate::Sum)?;
                scores.iter_mut().zip(&base).for_each(|(score, base)| *score += base);
                chosen.push(greatest(&scores));
                transform.apply(&mut scores);
                all.push(scores);
            }
        }
        classified(&labels, &chosen, all, if binary { 2 } else { classes })
    })
}

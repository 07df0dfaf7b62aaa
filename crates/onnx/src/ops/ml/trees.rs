//! Ensembles of decision trees.

use crate::operator::{Entry, Parsed, RawNode, Schema, eval};
use std::collections::HashMap;

use super::forest::{Aggregate, Branch, Forest, Mode, Step};
use super::scores::{Binary, Labels, Transform, classified, greatest};
use super::{one, sizes};
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

/// The number of a feature, as small as branches keep it.
fn feature(number: usize) -> Result<u32> {
    u32::try_from(number).map_err(|_| Error::invalid(format!("a tree asks for feature {number}")))
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
    let forest = forest_of_leaves(node, targets)?;
    eval(move |inputs| {
        let x = inputs.array(0)?;
        let rows = forest.rows(x)?;
        let mut values = vec![0.0; count(&[rows.rows, targets])?];
        for (row, scores) in rows.iter().zip(values.chunks_exact_mut(targets.max(1))) {
            forest.aggregate(row, scores, how);
            transform.apply(scores);
        }
        one(Array::of_floats(x.dtype(), vec![rows.rows, targets], values)?)
    })
}

fn forest_of_leaves(node: &RawNode, targets: usize) -> Result<Forest> {
    let attributes = &node.attributes;
    let list = |name: &str| sizes(attributes.ints(name)?.unwrap_or_default());
    let floats = |name: &str| attributes.array(name)?.map_or_else(|| Ok(Vec::new()), Array::floats);
    let (splits, features) = (floats("nodes_splits")?, list("nodes_featureids")?);
    let modes = attributes.array("nodes_modes")?.map_or_else(|| Ok(Vec::new()), Array::ints)?;
    let (yes, yes_leaf) = (list("nodes_truenodeids")?, list("nodes_trueleafs")?);
    let (no, no_leaf) = (list("nodes_falsenodeids")?, list("nodes_falseleafs")?);
    let missing = list("nodes_missing_value_tracks_true")?;
    let (voted, weights) = (list("leaf_targetids")?, floats("leaf_weights")?);
    let nodes = modes.len();
    if [splits.len(), features.len(), yes.len(), yes_leaf.len(), no.len(), no_leaf.len()] != [nodes; 6]
        || voted.len() != weights.len()
    {
        return Err(misfit("lists of nodes"));
    }
    // The members of each set, in the order of the nodes that test one: NaN ends a set.
    let members = floats("membership_values")?;
    let sets: Vec<Vec<f64>> = members.split(|member| member.is_nan()).map(<[f64]>::to_vec).collect();
    let (mut branches, mut looked_up) = (Vec::with_capacity(nodes), 0);
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
        let members = looked_up;
        if mode == Mode::Member {
            looked_up += 1;
        }
        let step = |at: usize, is_leaf: usize| if is_leaf != 0 { Step::leaf(at) } else { Step::branch(at) };
        branches.push(Branch {
            mode,
            feature: feature(features[i])?,
            split: splits[i],
            members,
            missing_is_true: missing.get(i).is_some_and(|&missing| missing != 0),
            yes: step(yes[i], yes_leaf[i])?,
            no: step(no[i], no_leaf[i])?,
        });
    }
    if looked_up as usize > sets.len() {
        return Err(misfit("membership_values"));
    }
    let roots = list("tree_roots")?.into_iter().map(Step::branch).collect::<Result<_>>()?;
    Forest::new(roots, branches, sets, voted.into_iter().zip(weights).map(|vote| vec![vote]), targets)
}

/// Versions 1 to 3: a leaf is a node; votes (of `class` or `target`) name their node.
fn forest_of_nodes(node: &RawNode, votes: &str, ids: &str, count: usize) -> Result<Forest> {
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
    let (mut steps, mut leaves, mut branched) = (HashMap::new(), Vec::new(), 0);
    for i in 0..nodes {
        let step = if modes[i] == "LEAF" {
            leaves.push(Vec::new());
            Step::leaf(leaves.len() - 1)?
        } else {
            branched += 1;
            Step::branch(branched - 1)?
        };
        steps.insert((trees[i], numbers[i]), step);
    }
    for i in 0..vote_trees.len() {
        if let Some(Err(leaf)) = steps.get(&(vote_trees[i], vote_nodes[i])).map(|step| step.at()) {
            leaves[leaf].push((targets[i], weights[i]));
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
            feature: feature(features[i])?,
            split: splits[i],
            members: 0,
            missing_is_true: missing.get(i).is_some_and(|&missing| missing != 0),
            yes: step(yes[i])?,
            no: step(no[i])?,
        });
    }
    Forest::new(roots, branches, Vec::new(), leaves, count)
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
    let forest = forest_of_nodes(node, "target", "target_ids", targets)?;
    eval(move |inputs| {
        let rows = forest.rows(inputs.array(0)?)?;
        let (mut values, mut scores) = (Vec::with_capacity(count(&[rows.rows, targets])?), vec![0.0; targets]);
        for row in rows.iter() {
            forest.aggregate(row, &mut scores, how);
            scores.iter_mut().zip(&base).for_each(|(score, base)| *score += base);
            transform.apply(&mut scores);
            values.extend(scores.iter().map(|&score| score as f32));
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
    let forest = forest_of_nodes(node, "class", "class_ids", classes)?;
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
                let score = forest.votes(row).map(|(_, weight)| weight).sum::<f64>() + base.last().unwrap_or(&0.0);
                let (class, scores) = kind.decide(score, transform);
                chosen.push(class);
                all.push(scores);
            } else {
                let mut scores = vec![0.0; classes];
                forest.aggregate(row, &mut scores, Aggregate::Sum);
                scores.iter_mut().zip(&base).for_each(|(score, base)| *score += base);
                chosen.push(greatest(&scores));
                transform.apply(&mut scores);
                all.push(scores);
            }
        }
        classified(&labels, &chosen, all, if binary { 2 } else { classes })
    })
}

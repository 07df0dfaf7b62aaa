//! What ranks tell each other, so that all of them decide the same.

use super::{Group, GroupError};

/// Bytes that are broadcast in one go.
const PIECE: usize = 1 << 28;

impl Group {
    /// Whether any rank says so.
    ///
    /// # Errors
    /// When another rank is gone.
    pub fn any(&self, here: bool) -> Result<bool, GroupError> {
        Ok(self.gather(&[u8::from(here)])?.iter().any(|answer| answer.first() == Some(&1)))
    }

    /// The bytes of every rank, in rank order. With rank 0's bytes alone it is a broadcast, and in any case a barrier.
    ///
    /// # Errors
    /// When another rank is gone.
    pub fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, GroupError> {
        let bytes = bytes.to_vec();
        if self.size() == 1 {
            return Ok(vec![bytes]);
        }
        self.wait(self.ask(move |transport| transport.gather_bytes(&bytes)))
    }

    /// The bytes of rank 0 on every rank; the others give none.
    ///
    /// # Errors
    /// When another rank is gone.
    pub fn broadcast(&self, bytes: &[u8]) -> Result<Vec<u8>, GroupError> {
        let first = |bytes: &[u8]| -> Result<Vec<u8>, GroupError> {
            Ok(self.gather(if self.is_first() { bytes } else { &[] })?.into_iter().next().unwrap_or_default())
        };
        let length = first(&(bytes.len() as u64).to_le_bytes())?;
        let length = length.try_into().map_or(0, u64::from_le_bytes) as usize;
        let mut all = Vec::with_capacity(length);
        for piece in 0..length.div_ceil(PIECE) {
            let here = if self.is_first() { &bytes[piece * PIECE..length.min((piece + 1) * PIECE)] } else { &[] };
            all.extend(first(here)?);
        }
        Ok(all)
    }

    /// What every rank tells, in rank order, if each has something to tell: otherwise the first failure, on every rank.
    ///
    /// # Errors
    /// When any rank failed, or is gone.
    pub fn exchange<E: std::fmt::Display>(&self, told: Result<Vec<u8>, E>) -> Result<Vec<Vec<u8>>, GroupError> {
        let told = match told {
            Ok(bytes) => [&[0], &bytes[..]].concat(),
            Err(error) => [&[1], format!("{}\n{error}", self.host()).as_bytes()].concat(),
        };
        let mut answers = self.gather(&told)?;
        if let Some(rank) = answers.iter().position(|answer| answer.first() != Some(&0)) {
            let text = String::from_utf8_lossy(answers[rank].get(1..).unwrap_or_default()).into_owned();
            let (host, reason) = text.split_once('\n').unwrap_or_default();
            return Err(GroupError::Failed { rank, host: host.to_string(), reason: reason.to_string() });
        }
        Ok(answers.iter_mut().map(|answer| answer.split_off(1)).collect())
    }

    /// What this rank has done, if every rank has: otherwise the first failure, on every rank.
    ///
    /// # Errors
    /// When any rank failed, or is gone.
    pub fn agree<T, E: std::fmt::Display>(&self, result: Result<T, E>) -> Result<T, GroupError> {
        let (value, told) = match result {
            Ok(value) => (Some(value), Ok(Vec::new())),
            Err(error) => (None, Err(error)),
        };
        self.exchange(told)?;
        value.ok_or_else(|| GroupError::Failed {
            rank: self.rank(),
            host: self.host().to_string(),
            reason: "its own failure was not told".to_string(),
        })
    }

    /// Checks that every rank was started with the same thing as rank 0.
    ///
    /// # Errors
    /// On every rank, with the first rank that differs.
    pub fn check_same(&self, what: &str, value: &str) -> Result<(), GroupError> {
        let answers = self.gather(format!("{}\n{value}", self.host()).as_bytes())?;
        let answers: Vec<(String, String)> = answers
            .iter()
            .map(|answer| {
                let text = String::from_utf8_lossy(answer).into_owned();
                text.split_once('\n').map_or_else(Default::default, |(host, value)| (host.into(), value.into()))
            })
            .collect();
        let expected = &answers[0].1;
        match answers.iter().enumerate().find(|(_, (_, value))| value != expected) {
            None => Ok(()),
            Some((rank, (host, found))) => Err(GroupError::Differs {
                rank,
                host: host.clone(),
                what: what.to_string(),
                found: found.clone(),
                expected: expected.clone(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::threads;

    #[test]
    fn a_difference_is_named_on_every_rank() {
        let errors = threads::run(3, |group| {
            let recipe = if group.rank() == 2 { "b" } else { "a" };
            group.check_same("program", "1").unwrap();
            group.check_same("recipe", recipe).unwrap_err().to_string()
        });
        for error in errors {
            assert!(error.starts_with("rank 2 on "), "{error}");
            assert!(error.ends_with("has another recipe than rank 0: found b, expected a"), "{error}");
        }
    }

    #[test]
    fn any_rank_can_say_so() {
        let answers = threads::run(4, |group| {
            let told = (group.any(group.rank() == 3).unwrap(), group.any(false).unwrap());
            let bytes = group.broadcast(if group.is_first() { b"weights" } else { b"" }).unwrap();
            (told, bytes)
        });
        assert!(answers.iter().all(|answer| *answer == ((true, false), b"weights".to_vec())));
    }

    #[test]
    fn a_failure_of_one_is_known_to_all() {
        let answers = threads::run(3, |group| {
            let result = if group.rank() == 1 { Err("no such file") } else { Ok(1) };
            let error = group.agree(result).unwrap_err();
            assert!(error.is_everywhere());
            (error.to_string(), group.agree(Ok::<_, String>(group.rank())).unwrap())
        });
        for (rank, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer, ("rank 1 on thread 1: no such file".to_string(), rank));
        }
    }
}

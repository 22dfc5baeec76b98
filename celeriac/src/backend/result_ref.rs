//! Handles on results.

use std::sync::Arc;

use crate::message::Value;

/// How many parents the wire form tells of. Each is nested into the one before, and Python reads no more than a thousand
/// levels.
const MAX_PARENTS: usize = 100;

/// A handle on results, as `children` and saved groups hold it.
///
/// On the wire `[[id, parent], null]` for a task and `[[id, parent], [child, ...]]` for a group
/// (celery 5.7 `celery/result.py` `as_tuple`). Cheap to clone but for the members of a group.
#[derive(Clone)]
pub struct ResultRef {
    /// Task id or group id.
    pub id: String,
    /// The result that this one follows in a chain.
    pub parent: Option<Arc<ResultRef>>,
    /// The members, if this is a group.
    pub children: Option<Vec<ResultRef>>,
}

impl ResultRef {
    /// The result of one task.
    pub fn task(id: impl Into<String>) -> Self {
        Self { id: id.into(), parent: None, children: None }
    }

    /// The results of a group.
    pub fn group(id: impl Into<String>, children: Vec<ResultRef>) -> Self {
        Self { id: id.into(), parent: None, children: Some(children) }
    }

    /// The ids of the task, or of all tasks in the group and its groups, in their order.
    pub(crate) fn tasks(&self) -> Vec<&str> {
        let mut tasks = Vec::new();
        let mut open = vec![self];
        while let Some(result) = open.pop() {
            match &result.children {
                Some(members) => open.extend(members.iter().rev()),
                None => tasks.push(result.id.as_str()),
            }
        }
        tasks
    }

    /// What the tasks of [`ResultRef::tasks`] returned, in the shape of the group: a group in it gives a list of its own.
    pub(crate) fn arrange(&self, values: impl IntoIterator<Item = Value>) -> Value {
        let mut values = values.into_iter();
        let Some(members) = &self.children else { return values.next().unwrap_or_default() };
        let (mut members, mut list) = (members.iter(), Vec::new());
        let mut around = Vec::new();
        loop {
            match members.next() {
                Some(ResultRef { children: Some(inner), .. }) => {
                    around.push((std::mem::replace(&mut members, inner.iter()), std::mem::take(&mut list)));
                }
                Some(_) => list.extend(values.next()),
                None => {
                    let whole = Value::List(std::mem::take(&mut list));
                    let Some(outer) = around.pop() else { return whole };
                    (members, list) = outer;
                    list.push(whole);
                }
            }
        }
    }

    /// The wire form; of a long chain it has the last hundred parents.
    pub fn to_value(&self) -> Value {
        let line: Vec<&Self> = self.line().take(MAX_PARENTS + 1).collect();
        line.into_iter().rev().fold(Value::Null, |parent, result| {
            let children = result
                .children
                .as_ref()
                .map_or(Value::Null, |children| children.iter().map(ResultRef::to_value).collect());
            Value::List(vec![Value::List(vec![Value::Str(result.id.clone()), parent]), children])
        })
    }

    /// Reads the wire form; `None` when the value has another shape.
    pub fn from_value(value: &Value) -> Option<Self> {
        let [head, children] = value.as_list()? else { return None };
        let [id, parent] = head.as_list()? else { return None };
        let parent = match parent {
            Value::Null => None,
            parent => Some(Arc::new(Self::from_value(parent)?)),
        };
        let children = match children {
            Value::Null => None,
            children => Some(children.as_list()?.iter().map(Self::from_value).collect::<Option<Vec<_>>>()?),
        };
        Some(Self { id: id.as_str()?.to_owned(), parent, children })
    }

    /// The result itself, its parent, and so on.
    fn line(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |result| result.parent.as_deref())
    }
}

impl PartialEq for ResultRef {
    fn eq(&self, other: &Self) -> bool {
        self.line().count() == other.line().count()
            && self
                .line()
                .zip(other.line())
                .all(|(one, other)| one.id == other.id && one.children == other.children)
    }
}

impl std::fmt::Debug for ResultRef {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parents: Vec<&str> = self.line().skip(1).map(|parent| parent.id.as_str()).collect();
        formatter
            .debug_struct("ResultRef")
            .field("id", &self.id)
            .field("parents", &parents)
            .field("children", &self.children)
            .finish()
    }
}

/// One parent after the other: a chain may have a hundred thousand.
impl Drop for ResultRef {
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(mut result) = next.and_then(Arc::into_inner) {
            next = result.parent.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_of_parents_is_cloned_compared_shown_written_and_dropped() {
        let line = |first: &str| {
            (0..100_000).fold(ResultRef::task(first), |parent, number| {
                let mut result = ResultRef::task(number.to_string());
                result.parent = Some(Arc::new(parent));
                result
            })
        };
        let last = line("first");
        assert_eq!(last, last.clone());
        assert_ne!(last, line("another"));
        assert!(format!("{last:?}").contains("first"));
        let read = ResultRef::from_value(&last.to_value()).expect("it is one");
        assert_eq!(read.line().count(), MAX_PARENTS + 1);
        assert_eq!(read.id, last.id);
    }
}

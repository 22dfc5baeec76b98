//! From a call's arguments to a task's `Params`, a struct with a field for each parameter of the function.

use celeriac::Value;
use celeriac::message::{Map, from_value};
use celeriac::task::{Arguments, Parameter, ParameterKind, Request, TaskError, TaskResult};
use celery::task::Task;

/// The task's parameters, made once a definition.
///
/// Which of them have a default only serde knows, so that none counts as required here.
pub(crate) fn parameters<T: Task>() -> &'static [Parameter] {
    let parameter = |name: &&'static str| Parameter { name, kind: ParameterKind::Optional };
    T::ARGS.iter().map(parameter).collect::<Vec<_>>().leak()
}

/// The arguments by their names, positional ones first, read as the task's `Params`.
pub(crate) fn read<T: Task>(parameters: &'static [Parameter], request: &Request) -> TaskResult<T::Params> {
    let function = T::NAME.rsplit('.').next().unwrap_or(T::NAME);
    Arguments::bind(function, parameters, request)?;
    let (args, kwargs) = (&request.body.args, &request.body.kwargs);
    let by_position = T::ARGS.iter().map(|name| (*name).to_owned()).zip(args.iter().cloned());
    let by_name = kwargs.iter().map(|(name, value)| (name.clone(), value.clone()));
    let named: Map = by_position.chain(by_name).collect();
    from_value(Value::Map(named))
        .map_err(|error| TaskError::builtin("TypeError", format!("{function}() arguments: {error}")))
}

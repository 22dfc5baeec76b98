//! The function's parameters: what each is filled with.

use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Expr, FnArg, GenericArgument, Ident, Meta, Pat, PatType, PathArguments};
use syn::{PathSegment, Result, Token, Type, parse_quote};

/// One parameter of the task function.
pub(crate) struct Parameter {
    pub(crate) name: Ident,
    pub(crate) ty: Type,
    pub(crate) source: Source,
}

/// Where a parameter's value comes from.
pub(crate) enum Source {
    /// The run's context.
    Context {
        /// Whether it is taken as `&Context`.
        by_reference: bool,
    },
    /// The worker's shared state of that type.
    State(Box<Type>),
    /// An argument that must be given.
    Required,
    /// An `Option`: an argument that may be left out.
    Optional,
    /// An argument that may be left out, and what it is then.
    Default(Box<Expr>),
    /// All further positional arguments.
    VarArgs,
    /// All further keyword arguments.
    VarKwargs,
}

/// Reads the parameters, and takes out of them what only this macro understands.
pub(crate) fn read(inputs: &mut Punctuated<FnArg, Token![,]>, bind: bool) -> Result<Vec<Parameter>> {
    let mut parameters: Vec<Parameter> = Vec::new();
    for (index, input) in inputs.iter_mut().enumerate() {
        let parameter = match input {
            FnArg::Typed(input) => read_one(input, bind && index == 0)?,
            FnArg::Receiver(receiver) => {
                let message = "a task is a free function and has no `self`; \
                    hint: take `context: &Context` to learn about the run";
                return Err(Error::new(receiver.span(), message));
            }
        };
        check_order(&parameters, &parameter)?;
        parameters.push(parameter);
    }
    if bind && parameters.is_empty() {
        let message = "a bound task takes its context first; hint: `task: &Self` or `context: &Context`";
        return Err(Error::new(inputs.span(), message));
    }
    Ok(parameters)
}

fn read_one(input: &mut PatType, is_bound: bool) -> Result<Parameter> {
    let name = match &*input.pat {
        Pat::Ident(pattern) if pattern.by_ref.is_none() && pattern.subpat.is_none() => pattern.ident.clone(),
        other => {
            let message = "a parameter of a task needs a plain name: callers give arguments by it";
            return Err(Error::new(other.span(), message));
        }
    };
    if is_bound && is_self_reference(&input.ty) {
        *input.ty = parse_quote!(&::celeriac::task::Context);
    }
    if let Type::ImplTrait(ty) = &*input.ty {
        return Err(Error::new(ty.span(), "a parameter of a task needs a concrete type to be read into"));
    }
    let marker = take_marker(&mut input.attrs)?;
    let source = match marker {
        Some(source) => source,
        None => source_of_type(&input.ty),
    };
    if is_bound && !matches!(source, Source::Context { .. }) {
        let message = "a bound task takes its context first; hint: `task: &Self` or `context: &Context`";
        return Err(Error::new(input.ty.span(), message));
    }
    Ok(Parameter { name, ty: (*input.ty).clone(), source })
}

/// What `#[default]`, `#[args]` and `#[kwargs]` say; other attributes stay.
fn take_marker(attributes: &mut Vec<Attribute>) -> Result<Option<Source>> {
    let mut marker = None;
    let mut kept = Vec::new();
    for attribute in attributes.drain(..) {
        let source = if attribute.path().is_ident("default") {
            Source::Default(Box::new(default_value(&attribute)?))
        } else if attribute.path().is_ident("args") {
            attribute.meta.require_path_only()?;
            Source::VarArgs
        } else if attribute.path().is_ident("kwargs") {
            attribute.meta.require_path_only()?;
            Source::VarKwargs
        } else {
            kept.push(attribute);
            continue;
        };
        if marker.replace(source).is_some() {
            return Err(Error::new(
                attribute.span(),
                "a parameter has one of `default`, `args` and `kwargs`",
            ));
        }
    }
    *attributes = kept;
    Ok(marker)
}

fn default_value(attribute: &Attribute) -> Result<Expr> {
    match &attribute.meta {
        Meta::Path(_) => Ok(parse_quote!(::core::default::Default::default())),
        Meta::List(list) => list.parse_args(),
        Meta::NameValue(pair) => Ok(pair.value.clone()),
    }
}

fn source_of_type(ty: &Type) -> Source {
    if let Type::Reference(reference) = ty {
        let is_context = last_segment(&reference.elem).is_some_and(is_context);
        return if is_context { Source::Context { by_reference: true } } else { Source::Required };
    }
    let Some(segment) = last_segment(ty) else { return Source::Required };
    if is_context(segment) {
        return Source::Context { by_reference: false };
    }
    match (segment.ident.to_string().as_str(), only_type_argument(segment)) {
        ("State", Some(state)) => Source::State(Box::new(state.clone())),
        ("Option", Some(_)) => Source::Optional,
        _ => Source::Required,
    }
}

fn is_context(segment: &PathSegment) -> bool {
    segment.ident == "Context" && segment.arguments.is_none()
}

fn is_self_reference(ty: &Type) -> bool {
    matches!(ty, Type::Reference(reference) if matches!(&*reference.elem, Type::Path(path) if path.path.is_ident("Self")))
}

fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match ty {
        Type::Path(path) if path.qself.is_none() => path.path.segments.last(),
        Type::Group(group) => last_segment(&group.elem),
        Type::Paren(paren) => last_segment(&paren.elem),
        _ => None,
    }
}

fn only_type_argument(segment: &PathSegment) -> Option<&Type> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
    match arguments.args.first() {
        Some(GenericArgument::Type(ty)) if arguments.args.len() == 1 => Some(ty),
        _ => None,
    }
}

fn check_order(before: &[Parameter], next: &Parameter) -> Result<()> {
    let after_args = before.iter().any(|parameter| matches!(parameter.source, Source::VarArgs));
    let after_kwargs = before.iter().any(|parameter| matches!(parameter.source, Source::VarKwargs));
    let message = match next.source {
        Source::Context { .. } | Source::State(_) => return Ok(()),
        _ if after_kwargs => "no argument is left for a parameter after `#[kwargs]`",
        Source::VarKwargs => return Ok(()),
        _ if after_args => "no positional argument is left for a parameter after `#[args]`",
        _ => return Ok(()),
    };
    Err(Error::new(next.name.span(), message))
}

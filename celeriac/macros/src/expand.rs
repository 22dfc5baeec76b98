//! The code that stands for the function.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Ident, ItemFn, Result, ReturnType, Type};

use crate::attributes::Attributes;
use crate::parameters::{self, Parameter, Source};

/// The struct, its functions and its `Task` implementation.
pub(crate) fn expand(attributes: &Attributes, mut function: ItemFn) -> Result<TokenStream> {
    check(&function)?;
    let parameters = parameters::read(&mut function.sig.inputs, attributes.bind)?;
    let task = Expansion { attributes, returns: Returns::of(&function)?, parameters, function };

    let (struct_attributes, run_attributes): (Vec<_>, Vec<_>) =
        task.function.attrs.iter().partition(|attribute| attribute.path().is_ident("doc"));
    let visibility = &task.function.vis;
    let ident = &task.function.sig.ident;
    let name = task.name();
    let run = task.run(&run_attributes);
    let call = task.call();
    let definition = task.definition()?;

    Ok(quote! {
        #(#struct_attributes)*
        #[allow(non_camel_case_types)]
        #[derive(::core::clone::Clone, ::core::marker::Copy, ::core::fmt::Debug)]
        #visibility struct #ident {}

        // A function, since variables cannot have the name of a unit struct.
        #[doc(hidden)]
        #[allow(dead_code, unreachable_pub)]
        #visibility fn #ident() -> #ident {
            #ident {}
        }

        #[allow(dead_code, unreachable_pub)]
        impl #ident {
            /// The task's name on the wire.
            #visibility const NAME: &'static str = #name;

            #run

            #call

            /// A call of the task without arguments yet.
            #visibility fn signature() -> ::celeriac::message::Signature {
                ::celeriac::message::Signature {
                    task: ::std::string::String::from(Self::NAME),
                    ..::core::default::Default::default()
                }
            }
        }

        impl ::celeriac::task::Task for #ident {
            #definition
        }
    })
}

fn check(function: &ItemFn) -> Result<()> {
    let signature = &function.sig;
    if !signature.generics.params.is_empty() || signature.generics.where_clause.is_some() {
        let message = "a task cannot be generic: it is found by its name while the worker runs";
        return Err(Error::new(signature.generics.span(), message));
    }
    if let Some(abi) = &signature.abi {
        return Err(Error::new(abi.span(), "a task is a plain Rust function, without another ABI"));
    }
    if let Some(variadic) = &signature.variadic {
        return Err(Error::new(
            variadic.span(),
            "a task has no C variadics; hint: `#[args] rest: Vec<Value>`",
        ));
    }
    if let Some(constness) = &signature.constness {
        return Err(Error::new(constness.span(), "a task runs in a worker and cannot be `const`"));
    }
    Ok(())
}

/// What the function returns.
enum Returns {
    /// Something that is told to be a `Result` by its name.
    Result(Box<Type>),
    /// Any other value, or nothing.
    Plain(Box<Type>),
}

impl Returns {
    fn of(function: &ItemFn) -> Result<Self> {
        let ty = match &function.sig.output {
            ReturnType::Default => return Ok(Returns::Plain(Box::new(syn::parse_quote!(())))),
            ReturnType::Type(_, ty) => ty.clone(),
        };
        match &*ty {
            Type::ImplTrait(_) => Err(Error::new(
                ty.span(),
                "a task needs a concrete return type: callers wait for a value of it",
            )),
            Type::Path(path) if path.path.segments.last().is_some_and(|last| is_result(&last.ident)) => {
                Ok(Returns::Result(ty))
            }
            _ => Ok(Returns::Plain(ty)),
        }
    }

    /// The type of the value of a task that succeeded.
    fn value_type(&self) -> TokenStream {
        match self {
            Returns::Result(ty) => quote! { <#ty as ::celeriac::task::outcome::Outcome>::Value },
            Returns::Plain(ty) => quote! { #ty },
        }
    }
}

fn is_result(ident: &Ident) -> bool {
    ident.to_string().ends_with("Result")
}

struct Expansion<'a> {
    attributes: &'a Attributes,
    function: ItemFn,
    parameters: Vec<Parameter>,
    returns: Returns,
}

impl Expansion<'_> {
    /// As Celery does it: the function's path with dots.
    fn name(&self) -> TokenStream {
        if let Some(name) = &self.attributes.name {
            return quote! { #name };
        }
        let function = self.function_name();
        quote! {{
            const PATH: &str = ::core::concat!(::core::module_path!(), "::", #function);
            const LENGTH: usize = ::celeriac::__private::dotted_length(PATH);
            const BYTES: [u8; LENGTH] = ::celeriac::__private::dotted(PATH);
            match ::core::str::from_utf8(&BYTES) {
                ::core::result::Result::Ok(__name) => __name,
                ::core::result::Result::Err(_) => PATH,
            }
        }}
    }

    fn function_name(&self) -> String {
        self.function.sig.ident.unraw().to_string()
    }

    fn run(&self, attributes: &[&Attribute]) -> TokenStream {
        let visibility = &self.function.vis;
        let block = &self.function.block;
        let mut signature = self.function.sig.clone();
        signature.ident = format_ident!("run");
        quote! {
            /// The function itself.
            #(#attributes)*
            #visibility #signature #block
        }
    }

    /// `s(..)`: the typed call.
    fn call(&self) -> TokenStream {
        let visibility = &self.function.vis;
        let value_type = self.returns.value_type();
        let has_var_args =
            self.parameters.iter().any(|parameter| matches!(parameter.source, Source::VarArgs));
        let mut inputs = Vec::new();
        let mut steps = Vec::new();
        for Parameter { name, ty, source } in &self.parameters {
            let text = name.unraw().to_string();
            match source {
                Source::Context { .. } | Source::State(_) => {}
                Source::Required => {
                    inputs.push(quote! { #name: #ty });
                    steps.push(quote! { .required(#text, &#name) });
                }
                // What comes before `*args` cannot be left out.
                Source::Optional if has_var_args => {
                    inputs.push(quote! { #name: #ty });
                    steps.push(quote! { .required(#text, &#name) });
                }
                Source::Optional => {
                    inputs.push(quote! { #name: #ty });
                    steps.push(quote! { .optional(#text, &#name) });
                }
                Source::Default(default) if has_var_args => {
                    inputs.push(quote! { #name: ::core::option::Option<#ty> });
                    steps.push(quote! { .required(#text, &#name.unwrap_or_else(|| #default)) });
                }
                Source::Default(_) => {
                    inputs.push(quote! { #name: ::core::option::Option<#ty> });
                    steps.push(quote! { .optional(#text, &#name) });
                }
                Source::VarArgs => {
                    inputs.push(quote! { #name: #ty });
                    steps.push(quote! { .var_args(&#name) });
                }
                Source::VarKwargs => {
                    inputs.push(quote! { #name: #ty });
                    steps.push(quote! { .var_kwargs(#name) });
                }
            }
        }
        quote! {
            /// A call of the task with those arguments; `None` leaves an optional one out.
            ///
            /// # Panics
            /// When an argument cannot be serialised, as a mapping whose keys are not text.
            #[allow(clippy::too_many_arguments)]
            #visibility fn s(#(#inputs),*) -> ::celeriac::task::TaskSignature<#value_type> {
                ::celeriac::task::CallBuilder::new(Self::NAME) #(#steps)* .build()
            }
        }
    }

    fn definition(&self) -> Result<TokenStream> {
        let options = &self.attributes.options;
        let pool = self.pool()?;
        let descriptions = self.descriptions();
        let types = self.types();
        let states = self.states();
        let handler = self.handler();
        Ok(quote! {
            fn definition(&self) -> ::celeriac::task::TaskDefinition {
                const __PARAMETERS: &[::celeriac::task::Parameter] = &[#(#descriptions),*];

                let mut __definition = ::celeriac::task::TaskDefinition::new(
                    Self::NAME,
                    ::core::default::Default::default(),
                    #handler,
                );
                __definition.parameters = ::core::option::Option::Some(__PARAMETERS);
                __definition.describe = ::core::option::Option::Some(#types);
                __definition.states = ::std::vec![#(#states),*];
                let __options = &mut __definition.options;
                __options.pool = ::celeriac::task::Pool::#pool;
                #(#options)*
                __definition
            }
        })
    }

    fn pool(&self) -> Result<Ident> {
        let is_async = self.function.sig.asyncness.is_some();
        let own = if is_async { "Async" } else { "Blocking" };
        match self.attributes.pool.as_ref().map(|(pool, span)| (pool.as_str(), *span)) {
            None => Ok(format_ident!("{own}")),
            Some(("process", _)) => Ok(format_ident!("Process")),
            Some(("async", _)) if is_async => Ok(format_ident!("{own}")),
            Some(("blocking", _)) if !is_async => Ok(format_ident!("{own}")),
            Some(("async", span)) => Err(Error::new(span, "only an `async fn` runs in the pool \"async\"")),
            Some(("blocking", span)) => {
                Err(Error::new(span, "only a plain `fn` runs in the pool \"blocking\""))
            }
            Some((other, span)) => {
                let message = format!(
                    "there is no pool \"{other}\"; the pools are \"async\", \"blocking\", \"process\""
                );
                Err(Error::new(span, message))
            }
        }
    }

    fn arguments(&self) -> impl Iterator<Item = (&Parameter, Ident)> {
        let is_argument = |source: &Source| !matches!(source, Source::Context { .. } | Source::State(_));
        self.parameters.iter().filter(move |parameter| is_argument(&parameter.source)).map(|parameter| {
            let kind = match parameter.source {
                Source::Optional | Source::Default(_) => "Optional",
                Source::VarArgs => "VarArgs",
                Source::VarKwargs => "VarKwargs",
                _ => "Required",
            };
            (parameter, format_ident!("{kind}"))
        })
    }

    fn descriptions(&self) -> Vec<TokenStream> {
        self.arguments()
            .map(|(parameter, kind)| {
                let name = parameter.name.unraw().to_string();
                quote! {
                    ::celeriac::task::Parameter {
                        name: #name,
                        kind: ::celeriac::task::ParameterKind::#kind,
                    }
                }
            })
            .collect()
    }

    /// A function that tells the schemas of the parameters and of the value that is returned.
    fn types(&self) -> TokenStream {
        let docs = self.function.attrs.iter().filter(|attribute| attribute.path().is_ident("doc"));
        let docs =
            docs.filter_map(|attribute| attribute.meta.require_name_value().ok().map(|doc| &doc.value));
        let schema = |ty: TokenStream| quote! { ::celeriac::schema::Probe::<#ty>::new().schema(__types) };
        let parameters = self.arguments().map(|(Parameter { ty, source, .. }, _)| {
            let schema = schema(quote! { #ty });
            let default = match source {
                Source::Default(default) => quote! { {
                    let __default: #ty = #default;
                    ::celeriac::schema::default_value(&__default)
                } },
                _ => quote! { ::core::option::Option::None },
            };
            quote! { (#schema, #default) }
        });
        let returns = schema(self.returns.value_type());
        quote! {
            |__types| {
                #[allow(unused_imports)]
                use ::celeriac::schema::Any;
                ::celeriac::schema::Types {
                    description: ::core::concat!("" #(, #docs, "\n")*),
                    parameters: ::std::vec![#(#parameters),*],
                    returns: #returns,
                }
            }
        }
    }

    fn states(&self) -> Vec<TokenStream> {
        self.parameters
            .iter()
            .filter_map(|parameter| match &parameter.source {
                Source::State(ty) => {
                    Some(quote! { (::core::any::TypeId::of::<#ty>(), ::core::any::type_name::<#ty>()) })
                }
                _ => None,
            })
            .collect()
    }

    /// A closure from the context to the value: reads the arguments, runs the function, encodes what it returns.
    fn handler(&self) -> TokenStream {
        let is_async = self.function.sig.asyncness.is_some();
        let wait = is_async.then(|| quote! { .await });
        let readings = self.readings();
        let values = self.parameters.iter().enumerate().map(|(index, parameter)| {
            let value = format_ident!("__value_{index}");
            match parameter.source {
                Source::Context { by_reference: true } => quote! { &__context },
                Source::Context { by_reference: false } => quote! { ::core::clone::Clone::clone(&__context) },
                _ => quote! { #value },
            }
        });
        let ident = &self.function.sig.ident;
        let call = match self.returns {
            Returns::Result(_) => quote! {
                ::celeriac::task::outcome::Outcome::into_task_result(#ident::run(#(#values),*) #wait)
            },
            Returns::Plain(_) => quote! { {
                #[allow(unused_imports)]
                use ::celeriac::task::outcome::{Plain, PlainValue};
                let __plain = #ident::run(#(#values),*) #wait;
                PlainValue(&__plain).check();
                ::celeriac::task::TaskResult::Ok(__plain)
            } },
        };
        let on_success = self.attributes.on_success.as_ref().map(|callback| {
            quote! { (#callback)(&__context, &__returned) #wait; }
        });
        let body = quote! {
            #(#readings)*
            #[allow(clippy::let_unit_value, clippy::unit_arg)]
            let __returned = #call?;
            #on_success
            ::celeriac::task::outcome::encode_returned(&__returned)
        };
        let body = match &self.attributes.on_failure {
            None => body,
            Some(callback) => self.with_on_failure(callback, &body),
        };
        if is_async {
            quote! {
                ::celeriac::task::Handler::from_async(|__context: ::celeriac::task::Context| async move { #body })
            }
        } else {
            quote! { ::celeriac::task::Handler::from_blocking(|__context: ::celeriac::task::Context| { #body }) }
        }
    }

    fn with_on_failure(&self, callback: &syn::Expr, body: &TokenStream) -> TokenStream {
        let (run, wait) = match self.function.sig.asyncness {
            Some(_) => (quote! { async { #body }.await }, Some(quote! { .await })),
            None => (quote! { (|| { #body })() }, None),
        };
        quote! {
            let __result: ::celeriac::task::TaskResult<::celeriac::message::Value> = #run;
            if let ::core::result::Result::Err(__error) = &__result {
                if __error.is_failure() {
                    (#callback)(&__context, __error) #wait;
                }
            }
            __result
        }
    }

    /// One `let value_N = ...;` for each parameter that is read from somewhere.
    fn readings(&self) -> Vec<TokenStream> {
        let function = self.function_name();
        let mut readings = vec![quote! {
            let __arguments = ::celeriac::task::Arguments::bind(#function, __PARAMETERS, __context.request())?;
        }];
        if self.arguments().next().is_none() {
            readings = vec![quote! {
                ::celeriac::task::Arguments::bind(#function, __PARAMETERS, __context.request())?;
            }];
        }
        let mut states = Vec::new();
        let mut position = 0usize;
        for (index, Parameter { ty, source, .. }) in self.parameters.iter().enumerate() {
            let value = format_ident!("__value_{index}");
            let reading = match source {
                Source::Context { .. } => continue,
                Source::State(ty) => {
                    states.push(quote! { let #value = __context.state::<#ty>()?; });
                    continue;
                }
                Source::Required => quote! { let #value: #ty = __arguments.required(#position)?; },
                // A missing argument and Python's None are both `None`.
                Source::Optional => quote! {
                    let #value: #ty = __arguments.optional::<#ty>(#position)?.flatten();
                },
                Source::Default(default) => quote! {
                    let #value: #ty = match __arguments.optional(#position)? {
                        ::core::option::Option::Some(__value) => __value,
                        ::core::option::Option::None => #default,
                    };
                },
                Source::VarArgs => quote! { let #value: #ty = __arguments.var_args(#position)?; },
                Source::VarKwargs => quote! { let #value: #ty = __arguments.var_kwargs(#position)?; },
            };
            readings.push(reading);
            position += 1;
        }
        readings.extend(states);
        readings
    }
}

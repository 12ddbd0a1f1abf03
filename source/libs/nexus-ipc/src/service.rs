//! One declaration a service: client, server trait, dispatch, limits and reference text come from it.

/// What a declaration says, for the reference page and for checks against the system's recipe.
#[derive(Debug)]
pub struct ServiceReference {
    /// Name of the endpoint.
    pub endpoint: &'static str,
    /// What the service is for.
    pub meaning: &'static str,
    /// Bytes of the largest request.
    pub max_bytes: usize,
    /// The operations, by number.
    pub operations: &'static [OperationReference],
}

/// One operation.
#[derive(Debug)]
pub struct OperationReference {
    /// Its number: the label of the request.
    pub number: u16,
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// The request's type and the bytes that it takes at the most.
    pub request: (&'static str, usize),
    /// The answer's type and the bytes that it takes at the most.
    pub answer: (&'static str, usize),
    /// Whether the client repeats it when the server died.
    pub retry: crate::Retry,
}

impl core::fmt::Display for ServiceReference {
    /// The reference page, as Markdown.
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        writeln!(formatter, "## {}\n\n{}\n", self.endpoint, self.meaning.trim())?;
        writeln!(formatter, "Requests take at most {} bytes.\n", self.max_bytes)?;
        writeln!(formatter, "| number | operation | request | answer | after `PeerGone` | meaning |")?;
        writeln!(formatter, "| --- | --- | --- | --- | --- | --- |")?;
        for operation in self.operations {
            let again = if operation.retry == crate::Retry::Idempotent { "repeated" } else { "told" };
            writeln!(
                formatter,
                "| {} | `{}` | `{}`, {} bytes | `{}`, {} bytes | {again} | {} |",
                operation.number,
                operation.name,
                operation.request.0,
                operation.request.1,
                operation.answer.0,
                operation.answer.1,
                operation.meaning.trim(),
            )?;
        }
        Ok(())
    }
}

/// Declares a service.
///
/// ```
/// nexus_ipc::service! {
///     /// Counts.
///     endpoint "counter", max_bytes 64, error ();
///     /// Adds to the count; yields nothing.
///     immediate once add(()) -> () = 1;
///     /// Waits until the count has changed.
///     deferred idempotent changed(()) -> () = 2;
/// }
/// ```
/// `immediate` operations are answered by what the server's method returns; a `deferred` one is given an
/// [`crate::Answer`] to keep. With `lends N` before the arrow the client lends so many ranges of memory
/// ([`crate::Lent`]) until the call returns, and the server is given [`crate::Leases`] (a deferred operation has
/// them of its answer). With `takes (A, E)` the client moves an [`crate::Answer`] along, to another call that took
/// an `A` or an `E`; the receiver must be one that takes capabilities ([`crate::Receiver::taking_capabilities`]).
/// With `opens Client` the answer brings a capability: a session with the server, of which the client makes that
/// `Client`; the server's method yields what it minted.
/// `idempotent` ones are repeated by the client when the server died, `once` ones are not.
/// Expands to `Client`, `Server`, `dispatch`, `MAX_BYTES` and `REFERENCE` where it stands: one module a service.
#[macro_export]
macro_rules! service {
    (
        $(#[doc = $meaning:literal])+
        endpoint $endpoint:literal, max_bytes $max_bytes:expr, error $error:ty;
        $(
            $(#[doc = $doc:literal])+
            $kind:ident $retry:ident $name:ident($request:ty)
                $(lends $leases:literal)? $(takes ($owed:ty, $refused:ty))? $(opens $opened:ident)?
                -> $answer:ty = $number:literal;
        )+
    ) => {
        /// Bytes of the largest request.
        pub const MAX_BYTES: usize = $max_bytes;

        $( const _: () = assert!(<$request as $crate::Message>::BYTES_MAX <= MAX_BYTES); )+

        /// The declaration, as data.
        pub const REFERENCE: $crate::ServiceReference = $crate::ServiceReference {
            endpoint: $endpoint,
            meaning: concat!($($meaning,)+),
            max_bytes: MAX_BYTES,
            operations: &[$( $crate::OperationReference {
                number: $number,
                name: stringify!($name),
                meaning: concat!($($doc,)+),
                request: (stringify!($request), <$request as $crate::Message>::BYTES_MAX),
                answer: (stringify!($answer), <$answer as $crate::Message>::BYTES_MAX),
                retry: $crate::service!(@retry $retry),
            } ),+],
        };

        $(#[doc = $meaning])+
        ///
        /// The client: each operation is one call with a deadline.
        #[derive(Clone, Copy, Debug)]
        pub struct Client {
            endpoint: $crate::reexports::nexus_abi::Handle,
        }

        impl Client {
            /// A client of this endpoint capability.
            pub const fn new(endpoint: $crate::reexports::nexus_abi::Handle) -> Self {
                Client { endpoint }
            }

            /// The capability that it calls through.
            pub const fn endpoint(&self) -> $crate::reexports::nexus_abi::Handle {
                self.endpoint
            }

            $( $crate::service!(@client ($($doc)+), $retry, $name, $request, $answer, $error, $number,
                [$($leases)?], [$($owed, $refused)?], [$($opened)?]); )+
        }

        $(#[doc = $meaning])+
        ///
        /// The server: what each operation does.
        pub trait Server {
            $( $crate::service!(@method $kind, ($($doc)+), $name, $request, $answer, $error,
                [$($leases)?], [$($owed, $refused)?], [$($opened)?]); )+
        }

        /// Decodes a call, has the server do it, and answers or keeps it.
        #[inline(always)]
        pub fn dispatch(server: &mut impl Server, mut call: $crate::Call<'_>) {
            match call.operation() {
                $( $number => match call.request::<$request>() {
                    Ok(request) => $crate::service!(@invoke $kind, server, call, $name, request,
                        [$($leases)?], [$($owed, $refused)?], [$($opened)?]),
                    Err(_) => call.refuse($crate::Status::Malformed),
                }, )+
                _ => call.refuse($crate::Status::UnknownOperation),
            }
        }
    };
    (@retry idempotent) => { $crate::Retry::Idempotent };
    (@retry once) => { $crate::Retry::Once };
    (@client ($($doc:literal)+), $retry:ident, $name:ident, $request:ty, $answer:ty, $error:ty, $number:literal,
        [], [], []) => {
        $(#[doc = $doc])+
        #[inline]
        pub fn $name(
            &self,
            request: &$request,
            deadline: $crate::Deadline,
        ) -> Result<$answer, $crate::CallError<$error>> {
            $crate::call(self.endpoint, $number, $crate::service!(@retry $retry), request, deadline)
        }
    };
    (@client ($($doc:literal)+), $retry:ident, $name:ident, $request:ty, $answer:ty, $error:ty, $number:literal,
        [$leases:literal], [], []) => {
        $(#[doc = $doc])+
        pub fn $name(
            &self,
            request: &$request,
            leases: [$crate::Lent<'_>; $leases],
            deadline: $crate::Deadline,
        ) -> Result<$answer, $crate::CallError<$error>> {
            let retry = $crate::service!(@retry $retry);
            $crate::call_lending(self.endpoint, $number, retry, request, &leases, deadline)
        }
    };
    (@client ($($doc:literal)+), once, $name:ident, $request:ty, $answer:ty, $error:ty, $number:literal,
        [], [$owed:ty, $refused:ty], []) => {
        $(#[doc = $doc])+
        pub fn $name(
            &self,
            request: &$request,
            answer: $crate::Answer<$owed, $refused>,
            deadline: $crate::Deadline,
        ) -> Result<$answer, $crate::NotHandedOn<$error, $owed, $refused>> {
            $crate::call_handing_on(self.endpoint, $number, request, answer, deadline)
        }
    };
    (@client ($($doc:literal)+), once, $name:ident, $request:ty, $answer:ty, $error:ty, $number:literal,
        [], [], [$opened:ident]) => {
        $(#[doc = $doc])+
        pub fn $name(
            &self,
            request: &$request,
            deadline: $crate::Deadline,
        ) -> Result<$opened, $crate::CallError<$error>> {
            $crate::call_opening(self.endpoint, $number, request, deadline).map($opened::new)
        }
    };
    (@method immediate, ($($doc:literal)+), $name:ident, $request:ty, $answer:ty, $error:ty, [], [], []) => {
        $(#[doc = $doc])+
        fn $name(&mut self, caller: $crate::Caller, request: $request) -> Result<$answer, $error>;
    };
    (@method immediate, ($($doc:literal)+), $name:ident, $request:ty, $answer:ty, $error:ty, [], [], [$opened:ident])
    => {
        $(#[doc = $doc])+
        fn $name(
            &mut self,
            caller: $crate::Caller,
            request: $request,
        ) -> Result<$crate::reexports::nexus_abi::Handle, $error>;
    };
    (@method immediate, ($($doc:literal)+), $name:ident, $request:ty, $answer:ty, $error:ty, [$leases:literal], [], [])
    => {
        $(#[doc = $doc])+
        fn $name(
            &mut self,
            caller: $crate::Caller,
            request: $request,
            leases: &$crate::Leases<'_>,
        ) -> Result<$answer, $error>;
    };
    (@method immediate, ($($doc:literal)+), $name:ident, $request:ty, $answer:ty, $error:ty, [],
        [$owed:ty, $refused:ty], []) => {
        $(#[doc = $doc])+
        fn $name(
            &mut self,
            caller: $crate::Caller,
            request: $request,
            owed: $crate::Answer<$owed, $refused>,
        ) -> Result<$answer, $error>;
    };
    (@method deferred, ($($doc:literal)+), $name:ident, $request:ty, $answer:ty, $error:ty,
        [$($leases:literal)?], [], []) => {
        $(#[doc = $doc])+
        fn $name(&mut self, caller: $crate::Caller, request: $request, answer: $crate::Answer<$answer, $error>);
    };
    (@invoke immediate, $server:ident, $call:ident, $name:ident, $request:ident, [], [], []) => {{
        let outcome = $server.$name($call.caller(), $request);
        $call.answer(outcome)
    }};
    (@invoke immediate, $server:ident, $call:ident, $name:ident, $request:ident, [], [], [$opened:ident]) => {{
        let outcome = $server.$name($call.caller(), $request);
        $call.answer_opening(outcome)
    }};
    (@invoke immediate, $server:ident, $call:ident, $name:ident, $request:ident, [$leases:literal], [], []) => {{
        let outcome = $server.$name($call.caller(), $request, &$call.leases());
        $call.answer(outcome)
    }};
    (@invoke immediate, $server:ident, $call:ident, $name:ident, $request:ident, [],
        [$owed:ty, $refused:ty], []) => {
        match $call.handed_on() {
            Ok(owed) => {
                let outcome = $server.$name($call.caller(), $request, owed);
                $call.answer(outcome)
            }
            Err(_) => $call.refuse($crate::Status::Malformed),
        }
    };
    (@invoke deferred, $server:ident, $call:ident, $name:ident, $request:ident, [$($leases:literal)?], [], []) => {{
        let caller = $call.caller();
        $server.$name(caller, $request, $call.keep())
    }};
}

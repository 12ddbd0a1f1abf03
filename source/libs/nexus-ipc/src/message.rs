//! Messages: types that know how they become bytes, and how many at the most.

use alloc::vec::Vec;

/// Why a message could not be encoded or decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageError {
    /// It needs more than [`Message::BYTES_MAX`] bytes.
    TooLarge,
    /// The bytes are truncated, too many, or not of this type.
    Malformed,
}

/// A request, an answer or an error of a service.
pub trait Message: Sized {
    /// Bytes of the largest encoding. At most 64 travel in registers alone.
    const BYTES_MAX: usize;

    /// Writes it to the beginning of `to`, which has at least [`Message::BYTES_MAX`] bytes; yields how many.
    fn encode(&self, to: &mut [u8]) -> Result<usize, MessageError>;

    /// The message that these bytes are, all of them.
    fn decode(bytes: &[u8]) -> Result<Self, MessageError>;

    /// Its bytes, where it is nothing but bytes: they are sent from where they stand.
    #[inline(always)]
    fn as_bytes(&self) -> Option<&[u8]> {
        None
    }

    /// Puts its bytes, and no others, into `buffer`.
    fn fill(&self, buffer: &mut Vec<u8>) -> Result<(), MessageError> {
        buffer.resize(Self::BYTES_MAX, 0);
        let length = self.encode(buffer)?;
        buffer.truncate(length);
        Ok(())
    }

    /// As [`Message::fill`], and may leave its own memory there.
    #[inline(always)]
    fn into_buffer(self, buffer: &mut Vec<u8>) -> Result<(), MessageError> {
        self.fill(buffer)
    }

    /// As [`Message::decode`], and may take the buffer along.
    #[inline(always)]
    fn from_buffer(buffer: &mut Vec<u8>) -> Result<Self, MessageError> {
        Self::decode(buffer)
    }
}

impl Message for () {
    /// Bytes of nothing.
    const BYTES_MAX: usize = 0;

    #[inline(always)]
    fn encode(&self, _to: &mut [u8]) -> Result<usize, MessageError> {
        Ok(0)
    }

    #[inline(always)]
    fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        if bytes.is_empty() { Ok(()) } else { Err(MessageError::Malformed) }
    }
}

/// Plain bytes, at most `MAX`: for what is bulk and has no structure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes<const MAX: usize>(pub Vec<u8>);

impl<const MAX: usize> Message for Bytes<MAX> {
    /// Bytes that the type says.
    const BYTES_MAX: usize = MAX;

    fn encode(&self, to: &mut [u8]) -> Result<usize, MessageError> {
        let room =
            to.get_mut(..self.0.len()).filter(|_| self.0.len() <= MAX).ok_or(MessageError::TooLarge)?;
        room.copy_from_slice(&self.0);
        Ok(self.0.len())
    }

    fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        if bytes.len() <= MAX { Ok(Bytes(bytes.to_vec())) } else { Err(MessageError::Malformed) }
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        Some(&self.0)
    }

    fn fill(&self, buffer: &mut Vec<u8>) -> Result<(), MessageError> {
        if self.0.len() > MAX {
            return Err(MessageError::TooLarge);
        }
        buffer.clear();
        buffer.extend_from_slice(&self.0);
        Ok(())
    }

    fn into_buffer(self, buffer: &mut Vec<u8>) -> Result<(), MessageError> {
        if self.0.len() > MAX {
            return Err(MessageError::TooLarge);
        }
        *buffer = self.0;
        Ok(())
    }

    /// Takes the buffer when it is mostly filled: who keeps a message is not to keep much more memory.
    fn from_buffer(buffer: &mut Vec<u8>) -> Result<Self, MessageError> {
        match buffer.len() {
            length if length > MAX => Err(MessageError::Malformed),
            length if length < buffer.capacity() / 2 => Self::decode(buffer),
            _ => Ok(Bytes(core::mem::take(buffer))),
        }
    }
}

/// Makes a serde type a message of at most `$maximum` bytes, in postcard.
#[macro_export]
macro_rules! postcard_message {
    ($name:ty, $maximum:expr) => {
        impl $crate::Message for $name {
            /// Bytes of the largest encoding.
            const BYTES_MAX: usize = $maximum;

            fn encode(&self, to: &mut [u8]) -> Result<usize, $crate::MessageError> {
                let room = to.len().min(Self::BYTES_MAX);
                let used = $crate::reexports::postcard::to_slice(self, &mut to[..room]);
                used.map(|used| used.len()).map_err(|_| $crate::MessageError::TooLarge)
            }

            fn fill(&self, buffer: &mut $crate::reexports::Vec<u8>) -> Result<(), $crate::MessageError> {
                buffer.clear();
                let filled = $crate::reexports::postcard::to_extend(self, core::mem::take(buffer));
                *buffer = filled.map_err(|_| $crate::MessageError::TooLarge)?;
                if buffer.len() > Self::BYTES_MAX {
                    return Err($crate::MessageError::TooLarge);
                }
                Ok(())
            }

            fn decode(bytes: &[u8]) -> Result<Self, $crate::MessageError> {
                if bytes.len() > Self::BYTES_MAX {
                    return Err($crate::MessageError::Malformed);
                }
                match $crate::reexports::postcard::take_from_bytes(bytes) {
                    Ok((message, rest)) if rest.is_empty() => Ok(message),
                    _ => Err($crate::MessageError::Malformed),
                }
            }
        }
    };
}

/// Makes a type of fixed layout (zerocopy's `FromBytes` and `IntoBytes`) a register message: its bytes are
/// its words, and it never touches memory on its way.
#[macro_export]
macro_rules! register_message {
    ($name:ty) => {
        const _: () = assert!(size_of::<$name>() <= $crate::reexports::nexus_abi::limits::REGISTER_BYTES);

        impl $crate::Message for $name {
            /// Bytes of every encoding.
            const BYTES_MAX: usize = size_of::<$name>();

            #[inline(always)]
            fn encode(&self, to: &mut [u8]) -> Result<usize, $crate::MessageError> {
                $crate::reexports::zerocopy::IntoBytes::write_to_prefix(self, to)
                    .map(|()| Self::BYTES_MAX)
                    .map_err(|_| $crate::MessageError::TooLarge)
            }

            #[inline(always)]
            fn decode(bytes: &[u8]) -> Result<Self, $crate::MessageError> {
                $crate::reexports::zerocopy::FromBytes::read_from_bytes(bytes)
                    .map_err(|_| $crate::MessageError::Malformed)
            }
        }
    };
}

//! A client of the server, as a device under the engine: what a driver does in a machine, a process does here.

use crate::disk::SECTOR;
use crate::wire::{self, Request, answer, command, option};
use statefs::{BlockDevice, DeviceError};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    input: BufReader<UnixStream>,
    output: UnixStream,
    length: u64,
    unit: u32,
    cookie: u64,
}

impl Client {
    /// Connects to the server at this socket and asks for its export.
    pub fn connect(socket: &Path) -> io::Result<Client> {
        let output = UnixStream::connect(socket)?;
        let input = BufReader::new(output.try_clone()?);
        let mut client = Client { input, output, length: 0, unit: SECTOR as u32, cookie: 0 };
        wire::expect(client.u64()?, wire::SERVER_MAGIC, "a server")?;
        wire::expect(client.u64()?, wire::OPTION_MAGIC, "a server")?;
        let _flags: [u8; 2] = wire::bytes(&mut client.input)?;
        client.output.write_all(&u32::from(wire::HANDSHAKE_FLAGS).to_be_bytes())?;
        client.go()?;
        Ok(client)
    }

    fn u32(&mut self) -> io::Result<u32> {
        wire::bytes(&mut self.input).map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> io::Result<u64> {
        wire::bytes(&mut self.input).map(u64::from_be_bytes)
    }

    fn go(&mut self) -> io::Result<()> {
        let mut bytes = wire::OPTION_MAGIC.to_be_bytes().to_vec();
        bytes.extend(option::GO.to_be_bytes());
        // The length; an empty name, and one wish: the sizes of blocks.
        bytes.extend(8u32.to_be_bytes());
        bytes.extend([0, 0, 0, 0, 0, 1, 0, 3]);
        self.output.write_all(&bytes)?;
        loop {
            wire::expect(self.u64()?, wire::ANSWER_MAGIC, "an answer")?;
            wire::expect(self.u32()?, option::GO, "an answer to this option")?;
            let kind = self.u32()?;
            let mut data = vec![0; self.u32()?.min(wire::OPTION_BYTES_MAX) as usize];
            self.input.read_exact(&mut data)?;
            match (kind, &data[..]) {
                (answer::ACK, _) => return Ok(()),
                (answer::INFO, [0, 0, rest @ ..]) => {
                    self.length = rest.first_chunk().map_or(0, |length| u64::from_be_bytes(*length));
                }
                (answer::INFO, [0, 3, _, _, _, _, rest @ ..]) => {
                    self.unit = rest.first_chunk().map_or(0, |unit| u32::from_be_bytes(*unit));
                }
                (answer::INFO, _) => {}
                (refusal, _) => {
                    return Err(io::Error::other(format!("the server refuses: answer {refusal:#x}")));
                }
            }
        }
    }

    /// Sends a request and takes its reply, the error's number included.
    fn ask(
        &mut self,
        command: u16,
        offset: u64,
        length: u32,
        data: &[u8],
        found: &mut [u8],
    ) -> io::Result<u32> {
        self.cookie += 1;
        let request = Request { command, cookie: self.cookie, offset, length };
        request.write(&mut self.output)?;
        self.output.write_all(data)?;
        wire::expect(self.u32()?, wire::REPLY_MAGIC, "a reply")?;
        let error = self.u32()?;
        wire::expect(self.u64()?, self.cookie, "the reply to this request")?;
        if error == 0 {
            self.input.read_exact(found)?;
        }
        Ok(error)
    }

    /// Says goodbye.
    pub fn disconnect(mut self) -> io::Result<()> {
        Request { command: command::DISCONNECT, cookie: 0, offset: 0, length: 0 }.write(&mut self.output)
    }
}

/// What the engine is told of a reply.
fn outcome(reply: io::Result<u32>) -> Result<(), DeviceError> {
    match reply {
        Ok(0) => Ok(()),
        Ok(wire::error::INVALID) => Err(DeviceError::Range),
        Ok(_) => Err(DeviceError::Io),
        Err(_) => Err(DeviceError::Gone),
    }
}

impl BlockDevice for Client {
    fn physical_block(&self) -> u32 {
        self.unit
    }

    fn length(&self) -> u64 {
        self.length
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        let length = u32::try_from(buffer.len()).map_err(|_| DeviceError::Range)?;
        outcome(self.ask(command::READ, offset, length, &[], buffer))
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        let length = u32::try_from(data.len()).map_err(|_| DeviceError::Range)?;
        outcome(self.ask(command::WRITE, offset, length, data, &mut []))
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        outcome(self.ask(command::FLUSH, 0, 0, &[], &mut []))
    }
}

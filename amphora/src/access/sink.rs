//! Where records are written. Only the writer waits here, and never for long unless the system makes it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    format::Batch,
    settings::{Settings, Target, Transport},
};

/// An open sink, or one that is to be opened again.
pub(super) struct Sink {
    settings: Settings,
    open: Open,
    /// Not to be tried before.
    rests_until: Option<Instant>,
    /// Failures in a row are told of once.
    failed: bool,
}

enum Open {
    Nothing,
    Stdout,
    File(File),
    Datagrams(UdpSocket),
    Stream(TcpStream),
}

impl Sink {
    pub(super) const fn new(settings: Settings) -> Self {
        Self {
            settings,
            open: Open::Nothing,
            rests_until: None,
            failed: false,
        }
    }

    /// Writes messages; how many were taken.
    pub(super) fn write(&mut self, batch: &Batch) -> u64 {
        if self.rests_until.is_some_and(|until| Instant::now() < until) {
            return 0;
        }
        self.rests_until = None;
        let mut taken = 0;
        let outcome = self
            .tend()
            .and_then(|()| self.open.write(batch, &mut taken));
        match outcome {
            Ok(()) => self.failed = false,
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    tracing::warn!(to = ?self.settings.to, %error, "access log records are lost");
                }
                self.open = Open::Nothing;
                self.rests_until = Some(Instant::now() + REST);
            }
        }
        taken
    }

    /// Opens what is not open, and puts a file aside that is full.
    fn tend(&mut self) -> io::Result<()> {
        if let (Open::File(file), Target::File(path)) = (&self.open, &self.settings.to) {
            let Settings {
                file_bytes_max,
                files_max,
                ..
            } = self.settings;
            // Who has moved it wants a new one.
            if !is_at(file, path)? || file.metadata()?.len() >= file_bytes_max {
                put_aside(file, path, files_max)?;
                self.open = Open::Nothing;
            }
        }
        if !matches!(self.open, Open::Nothing) {
            return Ok(());
        }
        self.open = match &self.settings.to {
            Target::Stdout => Open::Stdout,
            Target::File(path) => Open::File(open(path)?),
            Target::Syslog(Transport::Udp, to) => Open::Datagrams(datagrams(*to)?),
            Target::Syslog(Transport::Tcp, to) => {
                let stream = TcpStream::connect_timeout(to, PATIENCE)?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Open::Stream(stream)
            }
        };
        Ok(())
    }
}

impl Open {
    fn write(&mut self, batch: &Batch, taken: &mut u64) -> io::Result<()> {
        match self {
            Self::Nothing => return Ok(()),
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(batch.text())?;
                out.flush()?;
            }
            // Opened for appending: lines of others who write there stay whole, and ours.
            Self::File(file) => file.write_all(batch.text())?,
            Self::Datagrams(socket) => {
                for message in batch.messages() {
                    // A refusal that is told now was of an earlier one.
                    if socket.send(message).is_err() {
                        socket.send(message)?;
                    }
                    *taken += 1;
                }
                return Ok(());
            }
            Self::Stream(stream) => stream.write_all(batch.text())?,
        }
        *taken = batch.records();
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
}

/// Whether a file is the one of that name.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let own = file.metadata()?;
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    Ok((own.dev(), own.ino()) == (found.dev(), found.ino()))
}

/// `log` becomes `log.1`, that `log.2`, and so on; the last one goes. If somebody else has moved it, nothing is done.
fn put_aside(file: &File, path: &Path, most: u8) -> io::Result<()> {
    if !is_at(file, path)? {
        return Ok(());
    }
    // Several amphorae of a host may write to one file: one of them does it.
    file.lock()?;
    if !is_at(file, path)? {
        return Ok(());
    }
    let numbered = |number: u8| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    if most == 0 {
        return fs::remove_file(path);
    }
    for number in (1..most).rev() {
        // It may not be there yet.
        let _ = fs::rename(numbered(number), numbered(number + 1));
    }
    fs::rename(path, numbered(1))
}

fn datagrams(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = if to.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0_u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// How long a collector may take to take a connection, or what is sent to it.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two tries of a sink that failed.
const REST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::{
        super::{
            format::{Format, Framing},
            record::Record,
        },
        *,
    };

    fn batch(path: &str) -> Batch {
        let mut record = Record::default();
        record.ask("GET", path, b"");
        let mut batch = Batch::default();
        batch.add(&mut Format::new(Framing::Line), &record);
        batch
    }

    #[test]
    fn a_file_is_put_aside_when_it_is_full_and_opened_again_when_somebody_else_did() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let settings = Settings {
            to: Target::File(path.clone()),
            file_bytes_max: 10,
            files_max: 2,
            ..Settings::default()
        };
        // Two that write to the same file.
        let mut sinks = [Sink::new(settings.clone()), Sink::new(settings)];
        for number in 0..6 {
            let sink = &mut sinks[number % 2];
            assert_eq!(sink.write(&batch(&format!("/{number}"))), 1);
        }
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        let all = ["access.log.2", "access.log.1", "access.log"].map(read);
        assert!(all[2].contains("\"/5\""), "{all:?}");
        let lines: usize = all.iter().map(|text| text.lines().count()).sum();
        assert!(
            all.iter().all(|text| !text.is_empty()) && lines >= 3,
            "{all:?}"
        );
        assert_eq!(read("access.log.3"), "");
        fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        assert_eq!(sinks[1].write(&batch("/another")), 1);
        assert!(read("access.log").contains("\"/another\""));
        assert!(read("elsewhere").contains("\"/5\""));
        assert_eq!(read("access.log").lines().count(), 1);
    }

    #[test]
    fn a_sink_that_cannot_be_opened_takes_nothing_and_is_left_alone_for_a_while() {
        let mut sink = Sink::new(Settings {
            to: Target::File("/nowhere/at/all".into()),
            ..Settings::default()
        });
        assert_eq!(sink.write(&batch("/lost")), 0);
        assert!(sink.rests_until.is_some());
        assert_eq!(sink.write(&batch("/lost")), 0);
    }
}

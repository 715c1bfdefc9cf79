//! A process under test: started, listened to, killed; never left behind.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// Longest wait for anything that a healthy process does; a test that reaches it has failed.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A started process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    errors: Option<thread::JoinHandle<String>>,
}

impl Process {
    /// Starts a command; its output is read in the background, so that it never blocks.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut stderr = child.stderr.take().context("no standard error")?;
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let errors = thread::spawn(move || {
            let mut text = String::new();
            // What is no text is not worth a failure of its own.
            let _ = stderr.read_to_string(&mut text);
            text
        });
        Ok(Self {
            child,
            lines,
            errors: Some(errors),
        })
    }

    /// The next line of its output.
    ///
    /// # Errors
    /// When it ends, or says nothing for too long; its errors are in the message.
    pub fn line(&mut self) -> Result<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Ok(line),
            Err(_) => {
                let _ = self.child.kill();
                bail!("it said nothing; its errors: {}", self.errors())
            }
        }
    }

    /// The next line, as JSON.
    ///
    /// # Errors
    /// As [`Process::line`], or when it is no JSON.
    pub fn json_line(&mut self) -> Result<serde_json::Value> {
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| format!("no JSON: {line}"))
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it at once, as `kill -9` does.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill_9(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end, and waits.
    ///
    /// # Errors
    /// When it does not end.
    pub fn terminate(self) -> Result<(ExitStatus, String)> {
        signal(self.id(), "TERM")?;
        self.wait()
    }

    /// Waits for its end. Gives its status and everything it said on standard error.
    ///
    /// # Errors
    /// When it does not end.
    pub fn wait(mut self) -> Result<(ExitStatus, String)> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok((status, self.errors()));
            }
            if Instant::now() > until {
                let _ = self.child.kill();
                bail!("it did not end; its errors: {}", self.errors());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// What is left of its output, then its end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn output(self) -> Result<(ExitStatus, String, String)> {
        let mut text = String::new();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            text.push_str(&line);
            text.push('\n');
        }
        let (status, errors) = self.wait()?;
        Ok((status, text, errors))
    }

    /// Whether it has ended, well or not.
    ///
    /// # Errors
    /// When that cannot be known.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// What has become of it, for a message: its end or that it still ran, and everything it said on standard error.
    /// It is killed.
    #[must_use]
    pub fn fate(mut self) -> String {
        let ended = match self.child.try_wait() {
            Ok(Some(status)) => format!("ended with {status}"),
            Ok(None) => "still ran".to_owned(),
            Err(error) => error.to_string(),
        };
        // It may have ended.
        let _ = self.child.kill();
        format!("{ended}; its errors: {}", self.errors())
    }

    fn errors(&mut self) -> String {
        let errors = self.errors.take().map(thread::JoinHandle::join);
        errors.and_then(Result::ok).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal by name to a process that need not be ours.
///
/// # Errors
/// When there is no such process.
pub fn signal(process: u32, name: &str) -> Result<()> {
    let status = Command::new("kill")
        .args(["-s", name, &process.to_string()])
        .status()?;
    if status.success() {
        Ok(())
    } else {
        bail!("process {process} cannot be sent {name}")
    }
}

/// Asks again and again until `ready` gives something.
///
/// # Errors
/// When it never does.
pub fn until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ready() {
            return Ok(found);
        }
        if Instant::now() > end {
            bail!("waited in vain: {what}");
        }
        thread::sleep(Duration::from_millis(20));
    }
}

//! `keyquake lab`: a local page to move settings on.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use keyquake_idp::Guard;

use super::listen::listen;
use super::rehearsal::read;
use super::{End, Unusable};
use crate::interrupt::Interrupt;
use crate::lab::{Opened, serve};
use crate::terminal::{print, say};

#[derive(Debug, Args)]
pub(super) struct Lab {
    /// The scenario file to open; one of the lab's own when left out.
    scenario: Option<PathBuf>,
    /// The port; 0 for a free one.
    #[arg(long, default_value_t = 8500, allow_negative_numbers = true)]
    port: u16,
}

impl Lab {
    pub(super) fn execute(self) -> anyhow::Result<End> {
        let interrupt = Interrupt::listen(|| {})?;
        let opened = self.open().map_err(Unusable)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(self.serve(opened, interrupt))
    }

    fn open(&self) -> Result<Opened, String> {
        let Some(path) = &self.scenario else { return Ok(Opened::default()) };
        let shown = path.display().to_string();
        let text = read(path).map_err(|error| format!("error: cannot read `{shown}`: {error}"))?;
        let opened = Opened { name: shown, text };
        opened.check()?;
        Ok(opened)
    }

    async fn serve(self, opened: Opened, mut interrupt: Interrupt) -> anyhow::Result<End> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let guard = Guard::new(address.ip(), None)?;
        let listener = listen(address).await?;
        let url = format!("http://{}/", listener.local_addr()?);
        interrupt.defer();
        print(&format!("{url}\n"));
        say("open this page in a browser; Ctrl-C ends it");
        serve(listener, guard, opened, async move { interrupt.asked().await }).await?;
        Ok(End::Done)
    }
}

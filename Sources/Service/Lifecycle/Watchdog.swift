// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// Tells the service manager that the service is alive, if it wants to know (sd_watchdog_enabled(3)).
///
/// It is told only when every device's thread has answered since the last time: a device that
/// hangs is a service that hangs. It belongs to the main thread.
final class Watchdog: TimerHandler {
    private let interval: Duration
    private let loop: EventLoop
    private let census: Census
    private let manager: ServiceManager

    /// Nil when nobody wants to know.
    init?(loop: EventLoop, census: Census, manager: ServiceManager) {
        guard let text = ProcessEnvironment.variable("WATCHDOG_USEC"),
            let microseconds = Int64(text), microseconds > 0
        else { return nil }
        // Three times before the limit, so that one slow answer ends nothing.
        interval = .microseconds(max(1, microseconds / 3))
        self.loop = loop
        self.census = census
        self.manager = manager
        timerFired(tag: 0)
    }

    func timerFired(tag: Int) {
        loop.setTimer(after: interval, handler: self)
        census.inquiries.ask(census.devices, .areYouThere) { [manager] answers in
            let isAlive = answers.allSatisfy { answer in
                if case .silent = answer { return false }
                return true
            }
            if isAlive { manager.alive() }
        }
    }
}

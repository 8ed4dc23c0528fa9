// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Virtio

/// Signals a driver through the descriptor that SET_VRING_CALL brought: an eventfd, or a pipe of
/// user-mode-linux.
final class CallNotifier: DriverNotifier {
    private let counter: EventCounter

    /// Takes over a nonblocking descriptor.
    init(_ counter: consuming EventCounter) {
        self.counter = counter
    }

    func notifyDriver() {
        counter.signal()
    }
}

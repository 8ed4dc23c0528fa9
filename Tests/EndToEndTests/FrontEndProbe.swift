// SPDX-License-Identifier: Apache-2.0

import Guests
import LinuxIO

/// A connection that comes and goes.
enum FrontEndProbe {
    static func connect(path: String) throws {
        guard let address = UnixAddress(path: path) else { throw GuestError("\(path): too long") }
        _ = try UnixSocket.connect(to: address)
    }
}

// SPDX-License-Identifier: Apache-2.0

import Glibc

/// One of the streams that every process has.
public enum StandardStream: Int32, Sendable {
    case output = 1
    case error = 2

    /// Writes the text, all of it; a stream that is closed swallows it.
    ///
    /// The corresponding C function is `write`.
    public func write(_ text: String) {
        let bytes = Array(text.utf8)
        var done = 0
        while done < bytes.count {
            // SAFETY: writes what is left of the array.
            let count = unsafe bytes.withUnsafeBufferPointer { buffer in
                unsafe Glibc.write(
                    rawValue, buffer.baseAddress.map { unsafe $0 + done }, bytes.count - done)
            }
            if count <= 0 { return }
            done += count
        }
    }

    /// The device and the inode behind the stream, as `device:inode`; nil when it is closed.
    ///
    /// The corresponding C function is `fstat`.
    public var identity: String? {
        var status = stat()
        // SAFETY: fstat fills the one local that it is given.
        guard unsafe fstat(rawValue, &status) == 0 else { return nil }
        return "\(status.st_dev):\(status.st_ino)"
    }

    /// Whether the stream is a terminal.
    ///
    /// The corresponding C function is `isatty`.
    public var isTerminal: Bool { isatty(rawValue) == 1 }

    /// Lines of the terminal behind the stream; nil when there is none.
    ///
    /// The corresponding C function is `ioctl` with TIOCGWINSZ.
    public var lineCount: Int? {
        var size = winsize()
        // SAFETY: the request fills the one local that it is given.
        guard unsafe ioctl(rawValue, UInt(TIOCGWINSZ), &size) == 0, size.ws_row > 0 else {
            return nil
        }
        return Int(size.ws_row)
    }
}

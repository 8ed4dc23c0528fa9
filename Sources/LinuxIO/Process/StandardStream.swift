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
}

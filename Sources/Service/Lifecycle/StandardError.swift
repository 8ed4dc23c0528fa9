// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// The stream for messages that are for a person, not for the log.
public enum StandardError {
    /// Writes the text as it is.
    public static func write(_ text: String) {
        StandardStream.error.write(text)
    }
}

// SPDX-License-Identifier: Apache-2.0

import SystemPackage

/// What the library says of errors, made fit for our log.
enum LibraryErrorText {
    /// The errno in words where the library's text has one, else that text.
    static func plain(_ text: String) -> String {
        // The library's own reconnection is switched off, and says so where the connection ended.
        if text.isEmpty || text.contains("iscsi_service_reconnect")
            || endsOfCommands.contains(where: text.hasPrefix)
        {
            return "the target closed it"
        }
        if text.contains("errno") || text.contains("socket"),
            let code = trailingNumber(text), code > 0, code < 200
        {
            return Errno(rawValue: Int32(code)).description
        }
        return String(text.prefix { $0 != "\n" })
    }

    /// What the library says of commands, and leaves standing when the connection is closed later.
    private static let endsOfCommands = [
        "SENSE KEY", "RESERVATION CONFLICT", "TASK_SET_FULL", "TASK_ABORTED", "ACA_ACTIVE", "BUSY",
    ]

    /// The last number in a text.
    static func trailingNumber(_ text: String) -> Int? {
        guard let end = text.lastIndex(where: \.isNumber) else { return nil }
        let digits = text[...end].reversed().prefix { $0.isNumber }
        return Int(String(digits.reversed()))
    }
}

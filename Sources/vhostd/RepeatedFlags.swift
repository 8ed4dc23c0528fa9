// SPDX-License-Identifier: Apache-2.0

import Service

/// Looks for a flag that is given twice though it has one value: nobody knows which of the two was meant.
///
/// ArgumentParser takes the last one without a word.
enum RepeatedFlags {
    /// Flags without a value, which nothing follows.
    private static let switches: Set<String> = [
        "--quiet", "--json", "--help", "--version", "--print-capabilities",
    ]

    /// Flags with one value, of every command that makes a service.
    private static var single: Set<String> {
        // What has a variable has one value.
        let keys = ConfigurationKey.all.filter { $0.variable != nil }.map(\.flag)
        return Set(keys).union(["--config", "--socket-path", "--fd"])
    }

    /// - Throws: the first flag that is given twice, with both of its values.
    static func check(_ arguments: some Collection<String>) throws(ConfigurationError) {
        var values: [String: String] = [:]
        var rest = arguments.makeIterator()
        while let argument = rest.next() {
            guard argument.hasPrefix("--"), !switches.contains(argument) else { continue }
            let parts = argument.split(separator: "=", maxSplits: 1).map { String($0) }
            guard let flag = parts.first else { continue }
            let value = argument.contains("=") ? parts.dropFirst().first : rest.next()
            guard single.contains(flag) else { continue }
            if let first = values.updateValue(value ?? "", forKey: flag) {
                throw .repeatedFlag(flag, first: first, second: value ?? "")
            }
        }
    }
}

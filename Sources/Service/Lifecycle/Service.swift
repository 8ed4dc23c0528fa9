// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Logging

/// The service: what `vhostd run` does, whoever parsed the command line.
public enum Service {
    /// The version of the program.
    public static let version = "0.1.0"

    /// Names that `ServiceConfiguration.withheldFeatures` may have.
    public static let withholdableFeatures: [String] = ["packed"]

    /// Serves until SIGTERM or SIGINT.
    ///
    /// - Parameter configuration: checked.
    /// - Throws: why the service could not start; nothing is left behind then.
    public static func run(_ configuration: ServiceConfiguration) throws(ServiceFailure) {
    }
}

/// Why the service could not start or go on, fit for a person.
public struct ServiceFailure: Error, CustomStringConvertible {
    public let description: String
}

// SPDX-License-Identifier: Apache-2.0

import ISCSIBackstore
import LinuxIO
import Logging

/// The service: what `vhostd run` does, whoever parsed the command line.
public enum Service {
    /// The version of the program.
    public static let version = "0.1.0"

    /// Names that `ServiceConfiguration.withheldFeatures` may have.
    public static let withholdableFeatures = Composition.withholdableFeatures

    /// The value of a variable of the environment.
    public static func environmentVariable(_ name: String) -> String? {
        ProcessEnvironment.variable(name)
    }

    /// Serves until SIGTERM or SIGINT.
    ///
    /// Called on the main thread, once.
    ///
    /// - Parameter configuration: checked.
    /// - Throws: why the service could not start; nothing is left behind then.
    public static func run(_ configuration: ServiceConfiguration) throws(ServiceFailure) {
        ProcessArguments.overwrite { ISCSIURL.secretRange(in: $0) }
        LoggingSetup.bootstrap(
            level: configuration.logLevel, machine: configuration.machine)
        ProcessEnvironment.raiseDescriptorLimit()
        var configuration = configuration
        configuration.adopt(ActivatedSockets.take())
        do {
            if try !ProcessEnvironment.giveUpRights() {
                Logger(label: "service").info(
                    "this kernel has no Landlock: executing programs and making devices, folders, links and pipes is not given up"
                )
            }
            try ProcessEnvironment.surviveLostMemory()
            // Before any other thread: it blocks the signals that the others are to inherit.
            let supervisor = try Supervisor()
            try supervisor.start(configuration)
            try supervisor.runUntilStopped()
        } catch {
            throw ServiceFailure("\(error)")
        }
    }
}

/// Why the service could not start or go on, fit for a person.
public struct ServiceFailure: Error, CustomStringConvertible {
    public let description: String

    public init(_ description: String) {
        self.description = description
    }
}

// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Service

/// Which service is meant, and how its answer is shown.
struct ControlOptions: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp(
            "The virtual machine: its control socket is /run/vhostd/NAME/control.sock.",
            valueName: "name"))
    var vm: String?

    @Option(name: .long, help: ArgumentHelp("The control socket itself.", valueName: "path"))
    var socket: String?

    @Flag(name: .long, help: "Print the answer as JSON.")
    var json = false

    func validate() throws {
        guard (vm == nil) != (socket == nil) else {
            throw ValidationError("give --vm NAME, or --socket PATH")
        }
        if let vm, vm.isEmpty || vm.contains("/") || vm.hasPrefix(".") {
            throw ValidationError("--vm \(vm): no name of a virtual machine")
        }
    }

    var client: ControlClient {
        ControlClient(path: socket ?? "/run/vhostd/\(vm ?? "")/control.sock")
    }

    /// Asks the service.
    func ask(_ request: ControlRequest) throws -> ControlReply { try client.ask(request) }

    /// Asks the service and prints that it was done.
    func change(_ request: ControlRequest) throws {
        let reply = try ask(request)
        print(json ? reply.json : reply.message ?? "done")
    }

    /// Asks the service for its status and shows it.
    func show(_ table: (ServiceStatus) -> String) throws {
        let reply = try ask(ControlRequest(.status))
        guard !json, let status = reply.status else { return print(reply.json) }
        print(table(status), terminator: "")
    }
}

/// Where a logical unit is.
struct PlaceArguments: ParsableArguments {
    @Argument(help: "The target, 0 to 255.")
    var target: Int

    @Argument(help: "The LUN, 0 to 16383.")
    var lun = 0

    var place: UnitPlace { UnitPlace(target: target, lun: lun) }
}

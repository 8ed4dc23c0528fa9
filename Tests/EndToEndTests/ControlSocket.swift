// SPDX-License-Identifier: Apache-2.0

import Foundation
import Guests
import LinuxIO

/// A client of a service's control socket that knows lines and JSON, and nothing of our types.
enum ControlSocket {
    /// Sends a line and waits for the line that answers it.
    static func ask(_ path: String, _ line: String) throws -> [String: Any] {
        guard let address = UnixAddress(path: path) else { throw GuestError("\(path): too long") }
        let socket = try UnixSocket.connect(to: address)
        _ = try UnixSocket.send(Array((line + "\n").utf8), to: socket)
        var answer: [UInt8] = []
        for _ in 0..<20_000 {
            switch try UnixSocket.receive(from: socket, upTo: 1 << 16) {
            case (.bytes, let bytes, _): answer += bytes
            case (.wouldBlock, _, _): usleep(5_000)
            case (.endOfFile, _, _): throw GuestError("the service has hung up")
            }
            if answer.last == 0x0A { break }
        }
        let object = try JSONSerialization.jsonObject(with: Data(answer))
        return object as? [String: Any] ?? [:]
    }

    /// What the status says of a logical unit.
    static func unit(_ path: String, target: Int, lun: Int) throws -> [String: Any]? {
        let status = try ask(path, #"{"command":"status"}"#)["status"] as? [String: Any]
        let scsi = status?["scsi"] as? [String: Any]
        let units = scsi?["units"] as? [[String: Any]] ?? []
        return units.first { $0["target"] as? Int == target && $0["lun"] as? Int == lun }
    }
}

// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Either side of the storage benchmark.
///
///     StorageBenchmark serve SOCKET null|ram|FILE POLL-MICROSECONDS THREADS
///     StorageBenchmark load SOCKET scsi|scsi-2|block read|write DEPTH SECONDS BYTES sleep|poll PID
///
/// `serve` is the scsi device of vhostd in front of a store, `scsi-2` its second request queue. `load` is the front-end and the driver:
/// it keeps so many requests of 4 KiB under way on a disk of so many bytes, and prints
///
///     requests/s  microseconds of the back-end's processor time a request  kicks and calls a request
@main
enum StorageBenchmark {
    static func main() {
        do {
            let arguments = Array(CommandLine.arguments.dropFirst())
            switch arguments.first {
            case "serve" where arguments.count == 5:
                try BackEnd.serve(
                    socket: arguments[1], medium: arguments[2],
                    pollLimit: .microseconds(Int(arguments[3]) ?? 0),
                    threadCount: Int(arguments[4]) ?? 1)
            case "load" where arguments.count == 9:
                guard let load = try Load(arguments: Array(arguments.dropFirst())) else {
                    fallthrough
                }
                try load.run()
            default:
                print("usage: see the first lines of StorageBenchmark.swift")
                exit(2)
            }
        } catch {
            print("\(error)")
            exit(1)
        }
    }
}

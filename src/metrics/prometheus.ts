import { BOUNDS } from "./totals.js";
import { instruments, labelsOf, type Instrument, type Measured } from "./instruments.js";

/** The methods of a prom-client registry that are used. */
export interface RegistryLike {
  registerMetric(metric: never): void;
  removeSingleMetric(name: string): void;
}

/**
 * Adds the metrics to a registry of prom-client, which reads them at each scrape.
 *
 * @param upg the `Upgrader`
 * @returns a function that removes them
 */
export function prometheus(upg: Measured, registry: RegistryLike): () => void {
  const metrics = instruments(upg).map((instrument) => new PrometheusMetric(instrument, labelsOf(upg)));
  for (const metric of metrics) registry.registerMetric(metric as never);
  return () => {
    for (const { name } of metrics) registry.removeSingleMetric(name);
  };
}

interface Value {
  metricName?: string;
  labels: Record<string, string>;
  value: number;
}

/**
 * A metric in the form that a registry reads. prom-client's own classes would count in the process, not the service.
 */
class PrometheusMetric {
  readonly name: string;
  readonly help: string;
  readonly type: Instrument["type"];
  /** How prom-client combines the values of cluster workers. */
  readonly aggregator = "sum";
  readonly #instrument: Instrument;
  /** Of every value. */
  readonly #labels: Record<string, string>;

  constructor(instrument: Instrument, labels: Record<string, string>) {
    const { type, help } = instrument;
    const unit = instrument.unit !== undefined ? `_${instrument.unit}` : "";
    this.name = instrument.name.replaceAll(".", "_") + unit + (type === "counter" ? "_total" : "");
    this.type = type;
    this.help = help;
    this.#instrument = instrument;
    this.#labels = labels;
  }

  async get(): Promise<object> {
    const { name, help, type, aggregator } = this;
    return { name, help, type, aggregator, values: this.#values() };
  }

  /** One process does not reset the totals of its service. */
  reset(): void {}

  #values(): Value[] {
    const instrument = this.#instrument;
    const labelled = (value: string): Record<string, string> => ({
      ...this.#labels,
      ...(instrument.label === undefined ? {} : { [instrument.label]: value }),
    });
    if (instrument.type !== "histogram") {
      return Object.entries(instrument.read()).map(([key, value]) => ({ labels: labelled(key), value }));
    }
    return Object.entries(instrument.read()).flatMap(([key, { counts, count, sum }]) => {
      const labels = labelled(key);
      const bucket = (le: string, value: number): Value => {
        return { metricName: `${this.name}_bucket`, labels: { le, ...labels }, value };
      };
      return [
        ...BOUNDS.map((bound, n) => bucket(String(bound), counts[n]!)),
        bucket("+Inf", count),
        { metricName: `${this.name}_sum`, labels, value: sum },
        { metricName: `${this.name}_count`, labels, value: count },
      ];
    });
  }
}

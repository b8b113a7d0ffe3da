// Numbers and times as people read them.

const numbers = new Intl.NumberFormat();
const moments = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

export function count(number) {
  return numbers.format(number ?? 0);
}

/** "1 memory", "2 memories". */
export function counted(number, one, many) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** A moment in the reader's time; texts that are none stay as they are. Without an offset UTC is meant. */
export function when(text) {
  if (!text) return "";
  const hasOffset = /(Z|[+-]\d\d:?\d\d)$/i.test(text) || !text.includes("T");
  const moment = new Date(hasOffset ? text : `${text}Z`);
  return Number.isNaN(moment.getTime()) ? text : moments.format(moment);
}

export function bytes(number) {
  if (!number) return "0 B";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = Math.min(Math.floor(Math.log2(number) / 10), units.length - 1);
  const value = number / 2 ** (10 * power);
  return `${value.toFixed(power && value < 10 ? 1 : 0)} ${units[power]}`;
}

export function seconds(number) {
  if (!number) return "0 s";
  if (number < 1) return `${(number * 1000).toFixed(0)} ms`;
  if (number < 120) return `${number.toFixed(1)} s`;
  return `${(number / 60).toFixed(0)} min`;
}

export function score(number) {
  return typeof number === "number" ? number.toFixed(3) : "";
}

const TYPES = {
  WorkingMemory: "Working memory",
  LongTermMemory: "Long-term",
  UserMemory: "About the user",
  OuterMemory: "From outside",
  ToolSchemaMemory: "Tool",
  ToolTrajectoryMemory: "Use of a tool",
  RawFileMemory: "Piece of a file",
  SkillMemory: "Skill",
  PreferenceMemory: "Preference",
  Context: "Context",
};

/** The types that can be asked for, with words for them. */
export const TYPE_PAIRS = Object.entries(TYPES);

export function typeName(type) {
  return TYPES[type] ?? type ?? "Memory";
}
